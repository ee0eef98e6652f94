import { add, check, type Count, none } from "./steps.ts"

const packages = ["core", "postgres", "ray", "effect-ray"]

/** Format, lint and types beside each other, then the packages as npm would publish them. */
export const checks = async (): Promise<Count> => {
  const first = await Promise.all([
    check("format", "dprint", ["check"]),
    check("lint", "oxlint", ["--type-aware", "--deny-warnings"]),
    check("types and type tests", "tsc", ["-b"]),
    check("embedded SQL", "node", ["scripts/embedSql.ts", "--check"])
  ])
  // These pack a package and look at its `dist`, so they come after the types. Two packages at a time fill two cores.
  const packed: Array<Count> = []
  for (const name of packages) {
    packed.push(
      ...await Promise.all([
        check(`publint ${name}`, "publint", ["--strict", `packages/${name}`]),
        check(`are the types wrong ${name}`, "attw", ["--profile", "esm-only", "--pack", `packages/${name}`])
      ])
    )
  }
  return [...first, ...packed].reduce(add, none)
}
