/** What is left out of every folder of the user's own that travels: secrets, and what was made from the rest or beside it. */
import ignore, { type Ignore } from "ignore"

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
.effect-ray-ignore
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

/** Rules as of a `.gitignore`, to which others can be added. */
export const ignoring = (): Ignore => ignore().add(patterns)
