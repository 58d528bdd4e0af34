#!/usr/bin/env bash
# stand_in.sh ARCH FILE: a root that stands in for the official Python image, where no registry can be reached.
#
# Debian's smallest system with a Python 3.11: a copy of this machine's in /usr/local for its own architecture, Debian's for
# another, which QEMU runs. Where packages come from is what this machine's apt is told. Needs root and mmdebstrap.
set -euo pipefail
arch=$1 file=$2
packages=ca-certificates,netbase,libstdc++6
own=$(dpkg --print-architecture)
if [ "$arch" = "$own" ]; then
    packages+=,libssl3,libsqlite3-0,libffi8,libbz2-1.0,liblzma5,libreadline8,libncursesw6,libuuid1,zlib1g,libexpat1
else
    packages+=,python3
fi

folder=$(mktemp --directory "$file.XXXXXX")
trap 'rm -rf "$folder"' EXIT
mapfile -t sources < <(find /etc/apt/sources.list /etc/apt/sources.list.d \( -name '*.sources' -o -name '*.list' \) 2>/dev/null |
    xargs --no-run-if-empty grep -lE 'bookworm')
mmdebstrap --quiet --variant=minbase --architectures="$arch" --include="$packages" bookworm - "${sources[@]}" |
    tar --extract --directory "$folder" --exclude='./dev/*'
if [ "$arch" = "$own" ]; then
    prefix=$(python3.11 -c 'import sys; print(sys.base_prefix)')
    tar --create --directory "$prefix" --exclude=__pycache__ --exclude='*/test' --exclude='*/site-packages/*' \
        include lib/python3.11 $(cd "$prefix" && ls -d bin/python bin/python3 bin/python3.11 lib/libpython3* 2>/dev/null) |
        tar --extract --no-same-owner --directory "$folder/usr/local"
    ldconfig -r "$folder"
else
    ln --symbolic ../../bin/python3.11 "$folder/usr/local/bin/python"
fi
tar --create --directory "$folder" --file "$file.part" .
mv "$file.part" "$file"
