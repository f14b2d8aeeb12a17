"""Turn an existing network into a search space: what agrees with what, and where choices go in.

A network runs once and is recorded (`recording`). Channels that must agree are tied (`units`,
`coupled_layers`, `couplings`), and tied channels become sizes (`groups`). Layers are replaced by
elastic ones (`elasticize`, `cut`) as planned (`plan`), and what does not run then is taken back
(`trials`).
"""

from .converted import Converted as Converted
from .converting import Conversion as Conversion
from .converting import convert as convert
