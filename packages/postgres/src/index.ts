export * as EmbeddedPostgres from "./EmbeddedPostgres.ts"
export * as PgBroker from "./PgBroker.ts"
export * as PgGatewayRegistry from "./PgGatewayRegistry.ts"
export * as PgMigrations from "./PgMigrations.ts"
