#!/bin/sh
# Unpacks Debian's Valkey into the folder $1: bookworm has it only in its backports. The packages and the package lists of
# the machine stay as they are, and no service starts. The libraries that it needs are those of redis-server.
set -eu
new=$(realpath --canonicalize-missing "$1.new")
rm -rf "$1" "$new"
mkdir -p "$new/lists/partial"
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get update --print-uris | sed -n "s|^'\(.*\)/dists/$release/InRelease'.*|\1|p" | head -n 1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
printf "deb [signed-by=$keys] $mirror %s main\n" "$release" "$release-backports" >"$new/sources.list"
apt() {
    (cd "$new" && apt-get --quiet --quiet --option Dir::Etc::SourceList="$new/sources.list" \
        --option Dir::Etc::SourceParts=- --option Dir::State::Lists="$new/lists" --option Dir::Cache="$new" \
        --option Acquire::Languages=none --option APT::Sandbox::User=root "$@")
}
apt update
apt download valkey-server valkey-tools
for package in "$new"/*.deb; do dpkg-deb --extract "$package" "$new"; done
rm -rf "$new"/*.deb "$new"/*.bin "$new/lists"
"$new/usr/bin/valkey-server" --version >/dev/null
mv "$new" "$1"
