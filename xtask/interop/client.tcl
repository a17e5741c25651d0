# Tcl's websocket client, which stands on Tcl's http client and has its habits: it says
# `Connection: close, Upgrade`, and hangs when what it is answered says `close` as well.
#
# Prints `ok <case>` or `FAILED <case>: <why>`; exits 1 if any case failed. Its argument is the
# server's origin.

package require http
package require websocket

set origin [lindex $argv 0]
set patience_ms 10000
# What has come, as pairs of a kind and its content.
set arrived {}

::websocket::loglevel emergency

proc handle {socket kind content} {
    lappend ::arrived [list $kind $content]
}

# Waits until a script is true.
proc await {what script} {
    set end [expr {[clock milliseconds] + $::patience_ms}]
    while {![uplevel 1 $script]} {
        if {[clock milliseconds] > $end} { error "not in time: $what; what came is [list $::arrived]" }
        after 5 {set ::turn 1}
        vwait ::turn
    }
}

# What the API says to a question in JSON.
proc ask {path question} {
    set token [::http::geturl $::origin$path -query $question -type application/json -timeout $::patience_ms]
    set answer [list [::http::ncode $token] [::http::data $token]]
    ::http::cleanup $token
    if {[lindex $answer 0] != 200} { error "$path: $answer" }
    return [lindex $answer 1]
}

proc push {message} {
    ask /push "{\"userId\":\"tcl\",\"event\":\"news\",\"message\":\"$message\"}"
}

proc has {kind content} {
    expr {[list $kind $content] in $::arrived}
}

proc case_shakes_hands {} {
    set ::socket [::websocket::open [regsub {^http} $::origin ws]/ws handle]
    await "it is connected" { expr {[lsearch -index 0 $::arrived connect] >= 0} }
}

proc case_registers_and_receives {} {
    ::websocket::send $::socket text {{"token":"tcl","event":"news"}}
    await "a push reaches it" { expr {[push "are you bound"] eq "message sent to 1 clients"} }
    push hello
    await "it comes" { has text hello }
}

proc case_is_closed_by_the_operator {} {
    push last
    ask /v2/disconnect {{"user":"tcl"}}
    await "what was pushed comes" { has text last }
    await "the end comes" { expr {[lsearch -index 0 $::arrived close] >= 0} }
    set end [lindex $::arrived [lsearch -index 0 $::arrived close] 1]
    if {[lindex $end 0] != 1000} { error "closed with $end" }
}

proc case_closes_and_is_forgotten {} {
    set ::arrived {}
    case_shakes_hands
    case_registers_and_receives
    ::websocket::close $::socket 1000 bye
    await "it is forgotten" { expr {[push gone] eq "message sent to 0 clients"} }
}

set failed 0
foreach case {shakes_hands registers_and_receives is_closed_by_the_operator closes_and_is_forgotten} {
    set name [string map {_ " "} $case]
    if {[catch case_$case error]} {
        set failed 1
        puts "FAILED tcl: $name: [string map {"\n" " "} $error]"
        # What follows stands on it.
        break
    } else {
        puts "ok tcl: $name"
    }
    flush stdout
}
exit $failed
