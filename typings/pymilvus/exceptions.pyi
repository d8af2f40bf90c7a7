class MilvusException(Exception):
    code: int
    message: str
