/**
 * Decides what is left out of all the user's folders that travel: secrets, generated files, and files that are not
 * modules.
 */
import ignore, { type Ignore } from "ignore"
import type { Leaves } from "./sourceFolder.ts"

const made = `
# Made by Python and its tools. Other virtual environments and caches are recognised by the files that mark them.
__pycache__/
*.py[cod]
.venv/
venv/
node_modules/
.ipynb_checkpoints/
*.egg-info/

# Files that are not modules.
.git
.hg/
.svn/
.effect-ray/
.effect-ray-ignore
.DS_Store
# In a mounted ConfigMap or Secret: its files are links to these, and travel themselves.
..*
`

/** Names of files that are secrets or usually contain them. Modules do not have such names. */
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

/** Returns rules as in `.gitignore`. More can be added. */
export const ignoring = (): Ignore => ignore().add(made).add(secrets)

const secret = ignore().add(secrets)

/** Whether rules include a file again, or a folder that contains it. */
const takenIn = (rules: Ignore, name: string): boolean =>
  Array.from(name.matchAll(/\/|$/g), ({ index }) => name.slice(0, index + 1)).some((one) => rules.test(one).unignored)

/** Leaves out what the rules name, and links to files whose own names mark them as secrets. */
export const leaving = (rules: Ignore): Leaves => ({ name, target }) =>
  rules.ignores(name) || (target !== undefined && secret.ignores(target) && !takenIn(rules, name))
