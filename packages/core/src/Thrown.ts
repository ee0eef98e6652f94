/**
 * What was thrown, in words: for what ends without being an attempt, such as a handler thread that crashes.
 *
 * It needs nothing of Effect's runtime, so that a program which only carries attempts need not load it.
 */
import { describe as describeAll } from "./internal/describe.ts"

/**
 * Whatever was thrown, with what is behind it, bounded and storable.
 *
 * @category models
 */
export interface Thrown {
  /** Its name, message and fields, and in brackets what is behind it, down to the root. */
  readonly words: string
  /** The words of each, with its frames. */
  readonly stack: string
}

/**
 * Describes what was thrown, be it an error or not. Never throws.
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
