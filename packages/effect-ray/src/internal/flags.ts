/** The flags of settings, with the table's own descriptions. */
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import * as Settings from "../Settings.ts"

type FlagsOf<K extends Settings.Key> = { readonly [_ in K]: Flag.Flag<Option.Option<string>> }

/**
 * A flag for each setting that has one. All are plain texts: `Settings.load` validates them, so that everything that is
 * wrong is reported together. A switch is the text `true`, or `false` if negated. `defaults` are the command's own.
 */
export const of = <const K extends Settings.Key>(
  keys: ReadonlyArray<K>,
  defaults: Settings.Flags = {}
): FlagsOf<K> =>
  Object.fromEntries(keys.flatMap((key) => {
    const { env, flag, meaning, metavar, ...setting } = Settings.table[key]
    const value = defaults[key] ?? setting.default
    if (flag === undefined) return []
    const described = `${meaning} [${env}${value === undefined ? "" : `; default: ${value}`}]`
    const texts = metavar === ""
      ? Flag.map(Flag.Boolean(flag), String)
      : Flag.withMetavar(Flag.String(flag), metavar)
    return [[key, texts.pipe(Flag.withDescription(described), Flag.optional)]]
  })) as FlagsOf<K>

/** The texts of the flags that were given. */
export const given = (flags: Readonly<Record<string, Option.Option<string>>>): Settings.Flags =>
  Object.fromEntries(
    Object.entries(flags).flatMap(([key, text]) => Option.isSome(text) ? [[key, text.value]] : [])
  )
