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
CMAKE_ARGS="${arguments[*]}" python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary=:all: --require-hashes --requirement /tmp/opencv.txt --wheel-dir "$1"
