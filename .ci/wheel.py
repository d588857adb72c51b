"""The wheel holds async_after alone, with its type marker and the licence."""

import sys
import zipfile


def main(path: str) -> None:
    names = zipfile.ZipFile(path).namelist()
    tops = {name.split("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert tops == {"async_after"} | info, tops
    assert len(info) == 1, info
    assert "async_after/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    print(f"the wheel holds async_after alone: {len(names)} files")


if __name__ == "__main__":
    main(sys.argv[1])
