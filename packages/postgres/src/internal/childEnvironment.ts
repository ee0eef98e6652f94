/**
 * The part of this process's environment that child processes see: what programs need to run, and no secret of the app.
 * If root starts them, they run under another account, and everything under that account can read their environment.
 */
const allowedName = /^(PATH|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|SystemRoot|windir|ComSpec|PATHEXT|TEMP|TMP)$/i

/** The server's messages are searched for "ready" and for the reason of a failure, so they must be in English. */
export const childEnvironment = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => allowedName.test(name))),
  LC_ALL: "C",
  LC_MESSAGES: "C"
})
