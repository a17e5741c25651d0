#!/bin/sh
# nginx between `wserver doctor` and the server: set up well, and in each of the ways people get wrong.
#
# Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed. Its argument is the
# server's origin; PRIVATE_ORIGIN, PROGRAM, PROXY, TLS_PROXY, TLS_CERTIFICATE, TLS_KEY and SSL_CERT_FILE come by the
# environment.

origin=$1
backend=${origin#http://}
failed=0
folder=$(mktemp -d)
nginx=$(command -v nginx || echo /usr/sbin/nginx)

cat > "$folder/nginx.conf" <<CONFIGURATION
pid $folder/pid;
error_log $folder/error.log;
events {}
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;

    server {
        listen $PROXY;
        listen $TLS_PROXY ssl;
        ssl_certificate $TLS_CERTIFICATE;
        ssl_certificate_key $TLS_KEY;

        proxy_http_version 1.1;
        proxy_set_header Upgrade \$http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host \$http_host;
        proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;

        location = /ws { proxy_pass http://$backend; proxy_read_timeout 60s; }
        location = /impatient { proxy_pass http://$backend/ws; proxy_read_timeout 5s; }
        location = /no-upgrade {
            proxy_pass http://$backend/ws;
            proxy_set_header Connection "upgrade";
        }
        location = /no-connection {
            proxy_pass http://$backend/ws;
            proxy_set_header Upgrade \$http_upgrade;
        }
        location = /no-key {
            proxy_pass http://$backend/ws;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Sec-WebSocket-Key "";
        }
        location = /old { proxy_pass http://$backend/ws; proxy_http_version 1.0; }
        location = /elsewhere { proxy_pass http://$backend/elsewhere; }
        location = /nobody { proxy_pass http://127.0.0.1:9; }
        location = /redirect { return 301 https://push.example.com/ws; }
        # As nginx's own page about WebSockets has it: it leaves no mark on what it passes on.
        location /bare/ {
            proxy_pass http://$backend/;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection "upgrade";
        }
        location = /page { return 200 "a page"; }
    }
}
CONFIGURATION

"$nginx" -p "$folder" -c "$folder/nginx.conf" -e "$folder/error.log" || {
    echo "FAILED nginx: starts: $(cat "$folder/error.log")"
    exit 1
}
trap '"$nginx" -p "$folder" -c "$folder/nginx.conf" -e "$folder/error.log" -s stop; rm -rf "$folder"' EXIT

# A case by its name, the exit code, a pattern that what is said must match, and arguments.
check() {
    name=$1
    expected="$2 $3"
    shift 3
    said=$("$PROGRAM" doctor "$@" 2>&1)
    got="$? $said"
    case $got in
        $expected) echo "ok nginx: $name" ;;
        *)
            failed=1
            echo "FAILED nginx: $name: not '$expected': $(echo "$got" | tr '\n' ' ')"
            ;;
    esac
}

http=http://$PROXY
push="--push-url $PRIVATE_ORIGIN"

# shellcheck disable=SC2086
check 'set up well' 0 '*ok       upgrade*ok       protocol*ok       ping*ok       register*ok       delivery*ok       idle*ok       close*' \
    "$http" $push --idle 1s
# shellcheck disable=SC2086
check 'with TLS' 0 '*warning  tls        TLS 1*certificate for localhost*ok       delivery*ok       close*' \
    "https://localhost:${TLS_PROXY##*:}" $push --quick
# shellcheck disable=SC2086
check 'a proxy that leaves no mark' 0 '*ok       upgrade*ok       delivery*' "$http/bare/ws" $push --quick

# Nothing of what publishers and operators ask for is reached through it, with or without a body.
for path in push v2/push v2/push/batch v2/presence v2/disconnect 'v2/explain?user=jack&event=news' \
    v2/users/jack/connections v2/connections/1 'v2/trace?user=jack' v2/node v2/nodes metrics ''; do
    for body in '' '{"userId":"jack","event":"news","message":"m"}'; do
        status=$(curl --silent --output /dev/null --write-out '%{http_code}' ${body:+--data "$body"} "$http/bare/$path")
        case $status in
            403 | 404) echo "ok nginx: /$path is not open to strangers${body:+ who post}" ;;
            *)
                failed=1
                echo "FAILED nginx: /$path is not open to strangers${body:+ who post}: $status"
                ;;
        esac
    done
done
check 'without the header Upgrade' 1 '*failed   upgrade*proxy_set_header Upgrade*' "$http/no-upgrade"
check 'without the header Connection' 1 '*failed   upgrade*proxy_set_header Connection*' "$http/no-connection"
check 'without the header Sec-WebSocket-Key' 1 '*failed   upgrade*Sec-WebSocket-Key*' "$http/no-key"
check 'with HTTP/1.0' 1 '*failed   upgrade*proxy_http_version 1.1*' "$http/old"
check 'another path' 1 '*failed   upgrade*wserver says: no such path*' "$http/elsewhere"
check 'nobody behind it' 1 '*failed   upgrade*502*by nginx*does not reach wserver*' "$http/nobody"
check 'a redirect' 1 '*failed   upgrade*301*https://push.example.com/ws*' "$http/redirect"
check 'a page' 1 '*failed   upgrade*200*by nginx*the answer is a page*' "$http/page"
# shellcheck disable=SC2086
check 'cut after five seconds' 1 '*ok       delivery*failed   idle       cut after*proxy_read_timeout*' \
    "$http/impatient" $push --idle 20s

exit $failed
