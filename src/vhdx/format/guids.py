"""GUIDs: the ones that [MS-VHDX] assigns, and their two spellings (16 mixed-endian bytes, text)."""

from typing import Final
from uuid import UUID

ZERO_GUID: Final = UUID(int=0)

# Regions ([MS-VHDX] 2.2.3.2)
BAT_REGION: Final = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA_REGION: Final = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")

# Metadata items ([MS-VHDX] 2.6.2)
FILE_PARAMETERS: Final = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
VIRTUAL_DISK_SIZE: Final = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
VIRTUAL_DISK_ID: Final = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR_SIZE: Final = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR_SIZE: Final = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR: Final = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")

# Metadata items outside [MS-VHDX], known from microsoft/openvmm
CHS_PARAMETERS: Final = UUID("DA02D7BC-3D3A-423C-AC88-2A36AB21479B")
INCOMPLETE_FILE: Final = UUID("71CC85F0-1B69-4E28-9558-C3BF83AE75D3")
PMEM_LABEL_STORAGE: Final = UUID("10E1AE8A-4B7E-4169-A40F-CD70DE928393")

# Locator types ([MS-VHDX] 2.6.2.6.3)
VHDX_LOCATOR_TYPE: Final = UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")


def guid_text(guid: UUID) -> str:
    """Spell a GUID as a parent locator does: braces, lower case."""
    return f"{{{guid}}}"


def parse_guid_text(text: str) -> UUID | None:
    """Read a GUID in 8-4-4-4-12 form, with or without braces, in any case; None if it is not one."""
    body = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    groups = body.split("-")
    if [len(group) for group in groups] != [8, 4, 4, 4, 12]:
        return None
    if not all(character in "0123456789abcdefABCDEF" for group in groups for character in group):
        return None
    return UUID(body)
