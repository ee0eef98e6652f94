/**
 * Has a rejection that nobody handles end its thread as it would anyway, but with what was rejected: of a value that is no
 * error, Node would say "#<Object>".
 */
export const throwRejections = (): void => {
  process.on("unhandledRejection", (reason) => {
    // Listeners that the worker's module has added decide for themselves.
    if (process.listenerCount("unhandledRejection") === 1) throw reason
  })
}
