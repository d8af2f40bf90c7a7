#!/usr/bin/env bash
# Print the folder of the sample documents: manuals of Debian, written by nobody here, that the
# tests ingest. Fetched once, unpacked below the cache, never installed. MESHWRIGHT_SAMPLE_DOCUMENTS
# names another folder with the same files.
#   debian-reference.en.pdf     a long PDF            debian-reference.zh-cn.pdf  the same in Chinese
#   maint-guide/*.html          an HTML manual        maint-guide.zh-cn.txt       a Chinese text
#   debian-reference.en.txt     what the PDF should read as
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

packages=(debian-reference-en debian-reference-zh-cn maint-guide maint-guide-zh-cn)
documents="${MESHWRIGHT_SAMPLE_DOCUMENTS:-$CACHE/documents-$(hash_of "${BASH_SOURCE[0]}")}"

fetch_documents() {
    local work="$documents.partial" package reference guide
    command -v apt-get >/dev/null || die "the sample documents come from Debian's archive by apt-get;" \
        "elsewhere put them into a folder and name it in MESHWRIGHT_SAMPLE_DOCUMENTS"
    say "fetching the sample documents"
    rm -rf "$work"
    mkdir -p "$work/packages" "$work/maint-guide"
    apt_refresh
    # The sandbox user of apt cannot write below a home folder.
    (cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}" >&2) ||
        die "apt-get could not fetch ${packages[*]}; as root run: apt-get update"
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/packages"; done

    reference="$work/packages/usr/share/debian-reference"
    guide="$work/packages/usr/share/doc"
    cp "$reference"/debian-reference.{en,zh-cn}.pdf "$work"
    cp "$guide"/maint-guide/html/*.html "$work/maint-guide"
    gunzip -c "$reference/debian-reference.en.txt.gz" >"$work/debian-reference.en.txt"
    gunzip -c "$guide/maint-guide-zh-cn/maint-guide.zh-cn.txt.gz" >"$work/maint-guide.zh-cn.txt"
    rm -rf "$work/packages"
    mv "$work" "$documents"
}

one_at_a_time
[ -d "$documents" ] || fetch_documents
echo "$documents"
