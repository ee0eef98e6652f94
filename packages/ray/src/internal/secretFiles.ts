/** What is left out of every folder of the user's own that travels: secrets, and what was made from the rest or beside it. */
import ignore, { type Ignore } from "ignore"
import type { Leaves } from "./sourceFolder.ts"

const made = `
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
.effect-ray-ignore
.DS_Store
# Of a mounted ConfigMap or Secret: its files lead here, and travel themselves.
..*
`

/** What by its name is nothing but a secret, or usually holds one. No name that a module has. */
const secrets = `
.env*
*.env
.netrc
.pgpass
.my.cnf
.pypirc
.npmrc
.yarnrc.yml
.htpasswd
.git-credentials
.boto
.s3cfg
.vault-token
.terraformrc
*.tfstate*
.*_history
kubeconfig
*.kubeconfig
credentials.json
service-account*.json
service_account*.json
token.json
secrets.json
secrets.toml
secrets.yaml
secrets.yml
.ssh/
.aws/
.azure/
.gcloud/
**/.config/gcloud/
.kube/
.docker/
.gnupg/
*.pem
*.key
*.p12
*.pfx
*.ppk
*.jks
*.keystore
*.kdbx
id_rsa*
id_dsa*
id_ecdsa*
id_ed25519*
`

/** Rules as of a `.gitignore`, to which others can be added. */
export const ignoring = (): Ignore => ignore().add(made).add(secrets)

const secret = ignore().add(secrets)

/** Whether rules take something in again, or a folder around it. */
const takenIn = (rules: Ignore, name: string): boolean =>
  Array.from(name.matchAll(/\/|$/g), ({ index }) => name.slice(0, index + 1)).some((one) => rules.test(one).unignored)

/** Leaves out what rules name, and what a link leads to that is a secret by its own name. */
export const leaving = (rules: Ignore): Leaves => ({ name, target }) =>
  rules.ignores(name) || (target !== undefined && secret.ignores(target) && !takenIn(rules, name))
