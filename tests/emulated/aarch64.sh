#!/usr/bin/env bash
# Python and the product as aarch64 code on another CPU, by QEMU's user emulation: no root, container or ARM machine.
#
#   aarch64.sh build                 make the environment where it is missing (half a minute to some minutes)
#   aarch64.sh CPU PYTHON-ARGUMENT.. run its Python as a cortex-a53, cortex-a76 or neoverse-v1
#
# It lies in build/aarch64, or where AFTERIMAGE_AARCH64 says. Building needs `make setup`, mmdebstrap and QEMU.
# What runs there is ten times slower than here: it proves bits, not speed.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
folder=${AFTERIMAGE_AARCH64:-$checkout/build/aarch64}
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)

fail() {
    echo "$*" >&2
    exit 2
}

build() {
    if [ "$folder/.ready" -nt "$checkout/requirements.lock" ]; then return; fi
    if [ -z "$emulator" ] || ! command -v mmdebstrap >/dev/null; then
        fail "expected QEMU and mmdebstrap: apt-get install qemu-user-static mmdebstrap debian-archive-keyring"
    fi
    rm -rf "$folder/root" "$folder/packages"
    mkdir -p "$folder/root"
    # Extracted alone, never configured: no code of the other CPU runs while it is built. This Debian has Python 3.11.
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include=python3,libgomp1,libstdc++6 bookworm - |
        tar --extract --no-same-owner --exclude='./dev/*' --directory "$folder/root"
    # The packages of the lock file, less tools that no test imports (OpenVINO has no wheel for so old a C library).
    awk '/^[a-z0-9]/ { kept = $0 !~ /^(openvino|matplotlib|mypy|ruff)==/ } kept' "$checkout/requirements.lock" \
        >"$folder/requirements.txt"
    local platforms=()
    for tag in manylinux2014 manylinux_2_17 manylinux_2_26 manylinux_2_27 manylinux_2_28; do
        platforms+=(--platform "${tag}_aarch64")
    done
    "$checkout/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --python-version 3.11 "${platforms[@]}" --target "$folder/packages" \
        --requirement "$folder/requirements.txt"
    touch "$folder/.ready"
}

# QEMU stops at an instruction that the CPU lacks, and shows files of the root in the place of this machine's: also the
# one in which Linux says what the CPU has, which LLVM and ONNX Runtime read.
emulate() {
    local features="fp asimd crc32" part machine=$1
    case $1 in
    cortex-a53) part=0xd03 ;;
    cortex-a76) part=0xd0b features+=" atomics asimdrdm asimdhp asimddp" ;;
    neoverse-v1) part=0xd40 features+=" atomics asimdrdm asimdhp asimddp i8mm" machine=max ;;
    *) fail "expected build, cortex-a53, cortex-a76 or neoverse-v1, got '$1'" ;;
    esac
    if [ -z "$emulator" ] || [ ! -e "$folder/.ready" ]; then
        fail "no emulated environment: make one with 'aarch64.sh build'"
    fi
    mkdir -p "$folder/root/proc"
    for processor in $(seq 0 $(($(nproc --all) - 1))); do
        printf '%s\t: %s\n' processor "$processor" Features "$features" \
            "CPU implementer" 0x41 "CPU architecture" 8 "CPU variant" 0x1 "CPU part" $part "CPU revision" 0
        echo
    done >"$folder/root/proc/cpuinfo"
    unset NUMBA_CPU_NAME NUMBA_CPU_FEATURES
    export QEMU_LD_PREFIX=$folder/root
    export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$checkout:$folder/packages PYTHONDONTWRITEBYTECODE=1
    export AFTERIMAGE_CACHE_DIR=$folder/cache HYPOTHESIS_STORAGE_DIRECTORY=$folder/hypothesis
    exec "$emulator" -cpu "$machine" "$folder/root/usr/bin/python3.11" "${@:2}"
}

case ${1:-} in
build) build ;;
*) emulate "${1:-}" "${@:2}" ;;
esac
