/**
 * The Postgres broker, its migrations, and a Postgres for development: `effect-ray/postgres`.
 */
export * from "@effect-ray/postgres"
