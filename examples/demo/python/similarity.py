"""The work of the task `Compare`: which files use the same words."""

import numpy as np


def most_similar(documents, top):
    """Answers the `top` most similar pairs of documents, by the cosine of their TF-IDF vectors."""
    terms = sorted({term for document in documents for term in document["terms"]})
    column = {term: index for index, term in enumerate(terms)}
    counts = np.zeros((len(documents), len(terms)))
    for row, document in enumerate(documents):
        for term, count in document["terms"].items():
            counts[row, column[term]] = count

    # A word that every document uses tells nothing about any of them.
    document_frequency = np.count_nonzero(counts, axis=0)
    weights = np.log1p(counts) * np.log((1 + len(documents)) / (1 + document_frequency))
    norms = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = np.divide(weights, norms, out=np.zeros_like(weights), where=norms > 0)
    cosines = unit @ unit.T

    left, right = np.triu_indices(len(documents), k=1)
    best = np.argsort(-cosines[left, right], kind="stable")[:top]
    return {
        "numpy": np.__version__,
        "documents": len(documents),
        "terms": len(terms),
        "pairs": [
            {
                "left": documents[left[index]]["path"],
                "right": documents[right[index]]["path"],
                "cosine": round(float(cosines[left[index], right[index]]), 4),
            }
            for index in best
        ],
    }
