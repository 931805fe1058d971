"""Sound images made wrong, reproducibly: for tests of programs that must survive whatever a file says.

`Mutant(seed)` is a chain of files of which one has been wounded in some fields, structures or sizes. The sound
chains that mutants are made from are here, too: `base_image(name)` for each of `BASE_NAMES`.
"""

from vhdx.testing.hostile.bases import BASE_NAMES, BaseImage, base_image, copy_store
from vhdx.testing.hostile.mutant import Mutant

__all__ = ["BASE_NAMES", "BaseImage", "Mutant", "base_image", "copy_store"]
