/** Every migration, oldest first: tables and indexes. Append-only. */
import * as Initial from "./0001_initial.ts"
import * as FunctionsOfTheirOwn from "./0002_functions_of_their_own.ts"
import * as Duties from "./0003_duties.ts"
import * as Pauses from "./0004_pauses.ts"
import * as GivenUp from "./0005_given_up.ts"
import * as Failing from "./0006_failing.ts"
import * as Places from "./0007_places.ts"
import * as Runs from "./0008_runs.ts"

export interface Migration {
  readonly id: number
  readonly name: string
  /** The statements, in order, for a schema with this (quoted) name. */
  readonly statements: (schema: string) => ReadonlyArray<string>
}

export const migrations: ReadonlyArray<Migration> = [
  { id: 1, name: "0001_initial", statements: Initial.statements },
  { id: 2, name: "0002_functions_of_their_own", statements: FunctionsOfTheirOwn.statements },
  { id: 3, name: "0003_duties", statements: Duties.statements },
  { id: 4, name: "0004_pauses", statements: Pauses.statements },
  { id: 5, name: "0005_given_up", statements: GivenUp.statements },
  { id: 6, name: "0006_failing", statements: Failing.statements },
  { id: 7, name: "0007_places", statements: Places.statements },
  { id: 8, name: "0008_runs", statements: Runs.statements }
]
