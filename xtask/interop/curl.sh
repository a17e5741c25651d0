#!/bin/sh
# curl as a pusher over TLS: versions, client certificates, and what is refused.
#
# Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed. Its argument is the
# public origin; PRIVATE_ORIGIN, SSL_CERT_FILE, CLIENT_CERTIFICATE and CLIENT_KEY come by the
# environment.

origin=$1
failed=0
body='{"userId":"curl","event":"notify","message":"hello"}'
sent='message sent to 0 clients'

# What curl says: `<status> <version of HTTP> <body>`, or `error <its exit code>`.
# --disable comes first: no file of the caller's has a say.
ask() {
    answer=$(curl --disable --silent --max-time 20 --noproxy '*' --cacert "$SSL_CERT_FILE" \
        --write-out '\n%{http_code} %{http_version}' "$@" 2>/dev/null) || {
        echo "error $?"
        return
    }
    echo "$(echo "$answer" | tail -n 1) $(echo "$answer" | head -n 1)"
}

check() {
    name=$1
    expected=$2
    shift 2
    got=$(ask "$@")
    # The expected text is a pattern: curls differ in the code they end with.
    case $got in
        $expected) echo "ok curl: $name" ;;
        *)
            failed=1
            echo "FAILED curl: $name: got '$got', not '$expected'"
            ;;
    esac
}

client() {
    check "$@" --cert "$CLIENT_CERTIFICATE" --key "$CLIENT_KEY"
}

private=$PRIVATE_ORIGIN
old='DEFAULT@SECLEVEL=0'

client 'pushes over TLS 1.2' "200 1.1 $sent" --tlsv1.2 --tls-max 1.2 --data "$body" "$private/push"
client 'pushes over TLS 1.3' "200 1.1 $sent" --tlsv1.3 --data "$body" "$private/push"
client 'TLS 1.1 is refused' 'error 35' --tlsv1.0 --tls-max 1.1 --ciphers "$old" --data "$body" "$private/push"
client 'who would speak HTTP/2 is answered in 1.1' "200 1.1 $sent" --http2 --data "$body" "$private/push"
check 'who shows no certificate is refused' 'error *' --data "$body" "$private/push"
check 'a certificate of another authority is refused' 'error *' \
    --cert "$OTHER_CERTIFICATE" --key "$OTHER_KEY" --data "$body" "$private/push"
client 'plain HTTP to the private port is told to speak TLS' '400 * *TLS*' \
    --data "$body" "http://${private#https://}/push"
check 'plain HTTP to the public port is told to speak TLS' '400 * *TLS*' "http://${origin#https://}/ws"
check 'the public port has no push' '404 1.1 *' --data "$body" "$origin/push"
client 'a certificate does not open the public port' '404 1.1 *' --data "$body" "$origin/push"
client 'the private port has no WebSocket' '404 1.1 *' "$private/ws"
check 'the public port has a WebSocket' '400 1.1 *' "$origin/ws"
check 'the name is proved' 'error 60' "https://wrong.test:${origin##*:}/ws" --resolve "wrong.test:${origin##*:}:127.0.0.1"

exit $failed
