"""The part of PDFium's own interface that is used."""

from ctypes import c_double

FPDF_ERR_PASSWORD: int
FPDF_ERR_SECURITY: int
PDFDEST_VIEW_XYZ: int

def FPDFText_GetFontSize(text_page: object, index: int) -> float: ...
def FPDFText_GetCharOrigin(text_page: object, index: int, x: c_double, y: c_double) -> int: ...
