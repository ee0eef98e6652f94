/** Writes a line of the host's own log: JSON, on standard output. */
export const log = (
  level: "INFO" | "WARN" | "ERROR",
  message: string,
  fields: Readonly<Record<string, unknown>> = {}
): void => {
  process.stdout.write(`${JSON.stringify({ timestamp: new Date().toISOString(), level, message, ...fields })}\n`)
}
