"""`python -m effect_ray_gateway`: the entrypoint of the gateway's Ray Job."""

import sys

from .gateway import main

sys.exit(main())
