/** What of a Python folder travels: everything but secrets, and but what was made from the rest or beside it. */
import ignore from "ignore"
import * as fs from "node:fs"
import * as path from "node:path"
import { Source } from "./sourceFolder.ts"

/** Beside the Python modules: patterns as in `.gitignore`, after ours, so that `!` takes something in again. */
export const ignoreFile = ".effect-ray-ignore"

const patterns = `
# Python's own, and its tools'. Other virtual environments and caches are known by the files that mark them.
__pycache__/
*.py[cod]
.venv/
venv/
node_modules/
.ipynb_checkpoints/
*.egg-info/

# What lies beside modules and is none.
.git
.hg/
.svn/
.effect-ray/
${ignoreFile}
.DS_Store
# Of a mounted ConfigMap or Secret: its files lead here, and travel themselves.
..*

# Secrets.
.env*
.netrc
.pgpass
.pypirc
.npmrc
.htpasswd
.git-credentials
.ssh/
.aws/
.azure/
.gcloud/
.config/gcloud/
.kube/
.docker/
.gnupg/
*.pem
*.key
*.p12
*.pfx
*.jks
*.keystore
*.kdbx
id_rsa*
id_dsa*
id_ecdsa*
id_ed25519*
`

/** A file in them says what they are. */
const marks = ["pyvenv.cfg", "CACHEDIR.TAG"]

/** Python makes these wherever it runs, so nobody has to hear of them. */
const untold = /(?:^|\/)__pycache__\/$|\.py[cod]$|^\.effect-ray-ignore$/

export interface PythonFolder {
  readonly source: Source
  /** What a person may miss, in order. */
  readonly leftOut: ReadonlyArray<string>
}

export const readPythonFolder = (folder: string): PythonFolder => {
  const source = new Source(
    "the Python folder",
    `What hosts do not need is left out by patterns in its ${ignoreFile}, as in .gitignore.`
  )
  const rules = ignore().add(patterns)
  const own = path.join(folder, ignoreFile)
  if (fs.existsSync(own)) rules.add(fs.readFileSync(own, "utf8"))
  source.folder(folder, "", (name, file) => {
    const { ignored, unignored } = rules.test(name)
    return ignored || (!unignored && name.endsWith("/") && marks.some((mark) => fs.existsSync(path.join(file, mark))))
  })
  return { source, leftOut: source.leftOut.filter((name) => !untold.test(name)).sort() }
}
