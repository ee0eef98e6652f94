/** A binary heap: the least element first, in logarithmic time. */

export interface Heap<A> {
  readonly push: (value: A) => void
  readonly peek: () => A | undefined
  readonly pop: () => A | undefined
}

export const makeHeap = <A>(isBefore: (a: A, b: A) => boolean): Heap<A> => {
  const items: Array<A> = []

  const rise = (start: number): void => {
    let index = start
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(items[index]!, items[parent]!)) return
      swap(index, parent)
      index = parent
    }
  }

  const sink = (): void => {
    let index = 0
    for (;;) {
      const left = 2 * index + 1
      let least = index
      for (const child of [left, left + 1]) {
        if (child < items.length && isBefore(items[child]!, items[least]!)) least = child
      }
      if (least === index) return
      swap(index, least)
      index = least
    }
  }

  const swap = (a: number, b: number): void => {
    const kept = items[a]!
    items[a] = items[b]!
    items[b] = kept
  }

  return {
    push: (value) => {
      items.push(value)
      rise(items.length - 1)
    },
    peek: () => items[0],
    pop: () => {
      const first = items[0]
      const last = items.pop()
      if (items.length > 0) {
        items[0] = last!
        sink()
      }
      return first
    }
  }
}
