#!/bin/sh
# In an image: the user that everything runs as, and its folders.
set -eu
groupadd --gid 10001 weft
# useradd stamps the day of the last change of the password: the same bytes on another day.
useradd --uid 10001 --gid 10001 --no-log-init --home-dir /var/lib/weft --shell /usr/sbin/nologin weft
sed -i 's/^\(weft:[^:]*\):[0-9]*:/\1:0:/' /etc/shadow
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
install -d -o 10001 -g 10001 /var/lib/weft /checkpoints
install -d /data
