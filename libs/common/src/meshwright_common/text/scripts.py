"""Scripts of the world, as ranges for regular expressions."""

from typing import Final

WIDE: Final = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u30ff\u3105-\u312f"
    "\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U000323af"
)
"""Regular expression ranges of the scripts written without spaces (Chinese, Japanese, Korean)."""
