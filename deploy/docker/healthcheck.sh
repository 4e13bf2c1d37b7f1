#!/bin/bash
# Whether the program in this container is ready: GET /readyz on the port of its metrics.
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
read -r -t 4 _ code _ <&3
[ "$code" = 200 ]
