#!/usr/bin/env bash
# opencv.sh FOLDER: build the lock file's OpenCV for TARGETARCH, with no more in it than opencv.cmake says, as a wheel in FOLDER.
set -euo pipefail
here=$(dirname "$0")
. "$here/target.sh"

awk '/^[A-Za-z0-9]/ { kept = /^opencv-python-headless==/ } kept' "$here/requirements.lock" >/tmp/opencv.txt
arguments=("-C$here/opencv.cmake")
if [ "$(uname -m)" != "$machine" ]; then
    # What CMake would ask the other machine's Python is the same on this one: headers of a 64-bit Linux, and the stable ABI.
    export CC=$prefix-gcc CXX=$prefix-g++ _PYTHON_HOST_PLATFORM=linux-$machine
    arguments+=(
        -DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$machine"
        "-DPYTHON3_INCLUDE_PATH=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')"
        "-DPYTHON3_NUMPY_INCLUDE_DIRS=$(python -c 'import numpy; print(numpy.get_include())')"
        -DPYTHON3_NUMPY_VERSION="$(python -c 'import numpy; print(numpy.__version__)')"
    )
fi

source=$(mktemp --directory)
python -m pip download --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-binary=:all: \
    --require-hashes --requirement /tmp/opencv.txt --dest "$source"
tar --extract --strip-components 1 --directory "$source" --file "$source"/*.tar.gz
# Stubs for editors are made of all modules or not at all; a wheel without them is asked for them all the same.
sed -i -e 's|\[ r"python/cv2/py.typed" \] if sys.version_info >= (3, 6) else \[\]|[]|' \
    -e '/\["cv2.typing"\] =/s|= .*|= []|' "$source/setup.py"
if grep -q -e 'py\.typed' -e 'cv2.*/typing/' "$source/setup.py"; then
    echo "setup.py asks for its stubs in another way than expected" >&2
    exit 1
fi
CMAKE_ARGS="${arguments[*]}" python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
    --wheel-dir "$1" "$source"
