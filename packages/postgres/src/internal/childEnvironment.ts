/**
 * What child processes see of this process' environment: what programs need to run, and no secret of the app. Started by
 * root they run under another account, which all that runs under it may look into.
 */
const allowedName = /^(PATH|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|SystemRoot|windir|ComSpec|PATHEXT|TEMP|TMP)$/i

/** The server's messages are read for "ready" and for the reason of a failure, so they must be in English. */
export const childEnvironment = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => allowedName.test(name))),
  LC_ALL: "C",
  LC_MESSAGES: "C"
})
