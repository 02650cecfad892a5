#!/bin/sh
# What the coordinator's container runs: on the first start it makes its keys and one invitation a node, then it serves. A restart goes on.
set -eu
home=/var/lib/epgfn/home
study=${EPGFN_STUDY:-/etc/epgfn/study.toml}
name=${EPGFN_TLS_NAME:-coordinator}
invitations=${EPGFN_INVITATIONS:-/invitations}
epgfn-coordinator init --home "$home" --study "$study" --address "$name:7443" --enroll-address "$name:7444" --tls-name "$name"
for folder in "$invitations"/*/; do
  node=$(basename "$folder")
  [ -e "$folder/invitation.json" ] || epgfn-coordinator token "$node" --home "$home" --out "$folder/invitation.json"
done
exec epgfn-coordinator serve --home "$home"
