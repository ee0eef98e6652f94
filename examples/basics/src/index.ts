export * from "./tasks.ts"
