/**
 * Describes what was thrown, for ends that are not those of an attempt, such as a crashed handler thread.
 *
 * It does not need Effect's runtime, so a program that only carries attempts need not load it.
 */
import { describe as describeAll } from "./internal/describe.ts"

/**
 * A description of a thrown value and its causes, bounded and storable.
 *
 * @category models
 */
export interface Thrown {
  /** Its name, message and fields, followed in brackets by its causes, down to the root. */
  readonly words: string
  /** The words of it and of each cause, with their frames. */
  readonly stack: string
}

/**
 * Describes a thrown value, which need not be an error. Never throws.
 *
 * @category formatting
 */
export const describe = (
  thrown: unknown,
  limits: { readonly maxDetailLength: number; readonly maxStackLength: number }
): Thrown => {
  const { detail, name, stack } = describeAll([{ thrown }], limits)
  return { words: detail === "" ? name : `${name}: ${detail}`, stack }
}
