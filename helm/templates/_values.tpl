{{/*
What the program would refuse of a single value, in words, one complaint a line. Without this the
pod would end with 78 after the chart was installed. values.schema.json knows types and choices; it
can't say why.
*/}}
{{- define "usher.wrongValues" -}}
{{- $v := .Values -}}
{{- $label := "[A-Za-z0-9_-]+" -}}
{{- $port := "(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9][0-9]|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))?" -}}
{{- $host := printf "(%s([.]%s)*[.]?|\\[[0-9A-Fa-f:.]+\\])" $label $label -}}
{{- $server := print $host $port -}}

{{- /* Durations: the name, the least and the most in milliseconds, and both in words. */ -}}
{{- $ten := 315360000000 -}}
{{- $durations := list (list "tickets.ttl" 1000 300000 "from 1s to 300s") -}}
{{- range list "public.handshakeTimeout" "redis.timeout" "calls.timeout" "session.pingInterval" "session.idleTimeout" "session.writeTimeout" -}}
{{- $durations = append $durations (list . 1 $ten "more than 0s, and 87600h or less") -}}
{{- end -}}
{{- range list "session.maxLifetime" "grpc.maxConnectionAge" "ops.natsGrace" "presence.offlineDelay" "drain.delay" "drain.window" -}}
{{- $durations = append $durations (list . 0 $ten "87600h or less") -}}
{{- end -}}
{{- if include "usher.jwt" . -}}
{{- $durations = append $durations (list "tickets.jwt.jwksMaxAge" 2000 $ten "2s or more, and 87600h or less") -}}
{{- $durations = append $durations (list "tickets.jwt.leeway" 0 300000 "300s or less") -}}
{{- end -}}
{{- if $v.durable.enabled -}}
{{- $durations = append $durations (list "durable.audit" 1 $ten "more than 0s, and 87600h or less") -}}
{{- $durations = append $durations (list "durable.maxAge" 0 $ten "87600h or less") -}}
{{- $durations = append $durations (list "durable.duplicateWindow" 100 $ten "100ms or more, and 87600h or less") -}}
{{- end -}}
{{- if ne $v.nats.settle "auto" -}}{{- $durations = append $durations (list "nats.settle" 0 $ten "auto, or 87600h or less") -}}{{- end -}}
{{- range $durations -}}
{{- $text := include "usher.valueAt" (list $v (index . 0)) -}}
{{- $milliseconds := include "usher.milliseconds" $text | int64 -}}
{{- if or (lt $milliseconds (index . 1 | int64)) (gt $milliseconds (index . 2 | int64)) }}
{{ printf "%s (%s) must be %s" (index . 0) $text (index . 3) }}
{{- end -}}
{{- end -}}
{{- if include "usher.jwt" . -}}
{{- if mod (include "usher.milliseconds" $v.tickets.jwt.leeway | int64) 1000 }}
{{ printf "tickets.jwt.leeway (%s) must be whole seconds" $v.tickets.jwt.leeway }}
{{- end -}}
{{- end -}}
{{- if $v.durable.enabled -}}
{{- $age := include "usher.milliseconds" $v.durable.maxAge | int64 -}}
{{- if and (gt $age 0) (lt $age 1000) }}
{{ printf "durable.maxAge (%s) must be 1s or more, or 0s for no such limit" $v.durable.maxAge }}
{{- end -}}
{{- end -}}

{{- /* A level, or several with modules; a misspelt level would be taken for a module. */ -}}
{{- range splitList "," $v.log.filter -}}
{{- if not (regexMatch "^ *([A-Za-z0-9_:]+=)?(?i:off|error|warn|info|debug|trace) *$" .) }}
{{ printf "log.filter (%s) must be a level (error, warn, info, debug, trace or off), or several with modules, such as info,usher::bus=debug" $v.log.filter }}
{{- end -}}
{{- end -}}

{{- /* Sizes, in bytes. */ -}}
{{- $sizes := list
  (list "public.maxHeaderBytes" 8192 1048576 "from 8KiB to 1MiB") (list "grpc.maxMessage" 1024 67108864 "from 1KiB to 64MiB") -}}
{{- range list "session.queueBytes" "session.totalQueueBytes" "session.maxOutgoingFrame" "session.compressionThreshold" "session.maxFrame" -}}
{{- $sizes = append $sizes (list . 1 9007199254740992 "more than 0B, and 8388608GiB or less") -}}
{{- end -}}
{{- if $v.durable.enabled -}}
{{- $sizes = concat $sizes (list (list "durable.maxBytes" 1 9007199254740992 "more than 0B, and 8388608GiB or less") (list "durable.replayBytes" 12582912 9007199254740992 "12MiB or more")) -}}
{{- end -}}
{{- range $sizes -}}
{{- $text := include "usher.valueAt" (list $v (index . 0)) -}}
{{- $bytes := include "usher.bytes" $text | int64 -}}
{{- if or (lt $bytes (index . 1 | int64)) (gt $bytes (index . 2 | int64)) }}
{{ printf "%s (%s) must be %s" (index . 0) $text (index . 3) }}
{{- end -}}
{{- end -}}
{{- if lt (include "usher.bytes" $v.grpc.maxInFlightBytes | int64) (include "usher.bytes" $v.grpc.maxMessage | int64) }}
{{ printf "grpc.maxInFlightBytes (%s) must be at least grpc.maxMessage (%s), or no message of that size gets through" $v.grpc.maxInFlightBytes $v.grpc.maxMessage }}
{{- end -}}
{{- if gt (int64 $v.public.maxPendingPerIp) (int64 $v.public.maxPending) }}
{{ printf "public.maxPendingPerIp (%d) must be at most public.maxPending (%d), of which it is a part; or 0 for no limit" (int64 $v.public.maxPendingPerIp) (int64 $v.public.maxPending) }}
{{- end -}}

{{- /* Addresses, origins, URLs. */ -}}
{{- range $v.public.trustedProxies }}
{{- if not (include "usher.isNetwork" .) }}
{{ printf "public.trustedProxies: %s is neither an address nor a network such as 10.0.0.0/8" (quote .) }}
{{- end -}}
{{- end -}}
{{- if and (has "*" $v.public.allowedOrigins) (gt (len $v.public.allowedOrigins) 1) }}
public.allowedOrigins: * allows every origin; write it alone, or leave it out
{{- end -}}
{{- $web := printf "^(?i:https?)://([*][.])?(([A-Za-z0-9_-]|[^\\x00-\\x7F])+([.]([A-Za-z0-9_-]|[^\\x00-\\x7F])+)*|\\[[0-9A-Fa-f:]+\\])%s$" $port -}}
{{- $app := "^[A-Za-z][A-Za-z0-9+.-]*://[!\"$&'()+\\-.0-9:;<=>A-Z\\[\\]^_`a-z{|}~]+$" -}}
{{- range $v.public.allowedOrigins }}
{{- $ofTheWeb := regexMatch "^(?i:https?|wss?)://" . -}}
{{- if not (or (eq . "*") (and $ofTheWeb (regexMatch $web .)) (and (not $ofTheWeb) (regexMatch $app .))) }}
{{ printf "public.allowedOrigins: %s is not an origin: write scheme, host, a port where it is not the usual one, and nothing behind, such as https://app.example.com or https://*.example.com" (quote .) }}
{{- end -}}
{{- end -}}
{{- if regexMatch "/[.][.]?(/|$)" $v.public.pathPrefix }}
{{ printf "public.pathPrefix (%s) has . or .. in it, which clients resolve before they ask" $v.public.pathPrefix }}
{{- end -}}
{{- if and $v.nats.url (not (regexMatch "://[^/,]*@" $v.nats.url)) (not (regexMatch (printf "^((nats://)?%s/?(,(nats://)?%s/?)*|tls://%s/?(,tls://%s/?)*)$" $server $server $server $server) $v.nats.url)) }}
{{ printf "nats.url (%s) must be nats://HOST:PORT, or tls://HOST:PORT for TLS; several with commas between, all of the same kind" $v.nats.url }}
{{- end -}}
{{- if and $v.redis.url (regexMatch "^rediss?(-sentinel|-cluster)?://" $v.redis.url) (not (regexMatch "://[^/,]*@" $v.redis.url)) }}
{{- $single := regexMatch (printf "^rediss?://%s(/[0-9]{0,9})?$" $server) $v.redis.url -}}
{{- $sentinel := regexMatch (printf "^rediss?-sentinel://%s(,%s)*(/[0-9]{0,9})?([?].*)?$" $server $server) $v.redis.url -}}
{{- $cluster := regexMatch (printf "^rediss?-cluster://%s(,%s)*(/0?)?$" $server $server) $v.redis.url -}}
{{- if not (or $single $sentinel $cluster) }}
{{ printf "redis.url (%s) must be redis://HOST:PORT/NUMBER, redis-sentinel://HOST:PORT,HOST:PORT/0?master=NAME or redis-cluster://HOST:PORT,HOST:PORT; with rediss for TLS" $v.redis.url }}
{{- end -}}
{{- end -}}
{{- range $key := list "jwksUrl" "oidcIssuer" }}
{{- with get $v.tickets.jwt $key }}
{{- if not (regexMatch (printf "^https://%s(/[^\\s@?#]*)?%s$" $server (ternary "([?][^\\s@#]*)?" "" (eq $key "jwksUrl"))) .) }}
{{ printf "tickets.jwt.%s (%s) must be https://HOST/PATH, without credentials" $key . }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $v.telemetry.otlpEndpoint }}
{{- if not (regexMatch (printf "^https?://%s/?$" $server) .) }}
{{ printf "telemetry.otlpEndpoint (%s) must be http://HOST:PORT, or https://HOST:PORT for TLS" . }}
{{- end -}}
{{- end -}}

{{- /* Names. */ -}}
{{- if or (not (regexMatch "^[^\\s\\x00-\\x1f\\x7f*>.]+([.][^\\s\\x00-\\x1f\\x7f*>.]+)*$" $v.nats.prefix)) (hasPrefix "$" $v.nats.prefix) (eq (first (splitList "." $v.nats.prefix)) "_INBOX") }}
{{ printf "nats.prefix (%s) must be words with dots between, such as usher or acme.usher: no *, > or space, no empty word, and neither $ nor _INBOX at its beginning, which are NATS's own" $v.nats.prefix }}
{{- end -}}
{{- if not (regexMatch "^[^\\s\\x00-\\x1f\\x7f*>]+$" $v.nats.replyPrefix) }}
{{ printf "nats.replyPrefix (%s) must be how reply subjects begin, such as _INBOX., with no *, > or space" $v.nats.replyPrefix }}
{{- end -}}
{{- if and $v.durable.enabled (not (regexMatch "^[A-Za-z0-9_-]{1,200}$" $v.durable.stream)) }}
{{ printf "durable.stream (%s) must be 1 to 200 letters, digits, - and _, such as USHER" $v.durable.stream }}
{{- end -}}
{{- if include "usher.jwt" . -}}
{{- $symmetric := list "HS256" "HS384" "HS512" -}}
{{- $asymmetric := list "RS256" "RS384" "RS512" "PS256" "PS384" "PS512" "ES256" "ES384" "EdDSA" -}}
{{- $secret := contains "secretKey" (include "usher.jwt" .) -}}
{{- $good := ternary $symmetric $asymmetric $secret -}}
{{- range $v.tickets.jwt.algorithms -}}
{{- if not (has . $good) }}
{{ printf "tickets.jwt.algorithms: %s is none that goes with %s: write %s, or leave it out" (quote .) (ternary "a secret" "a public key" $secret) (join ", " $good) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range splitList "," $v.log.filter -}}
{{- if not (regexMatch "^(?i)([A-Za-z0-9_:-]+=)?(off|error|warn|info|debug|trace)$|^[A-Za-z0-9_:-]+$" .) }}
{{ printf "log.filter (%s) must be a level such as info, or levels of modules such as info,usher::bus=debug" $v.log.filter }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A value by its name, as text: (list values name). */}}
{{- define "usher.valueAt" -}}
{{- $value := index . 0 -}}
{{- range splitList "." (index . 1) -}}{{- $value = get $value . -}}{{- end -}}
{{- $value -}}
{{- end -}}

{{/* Whether a text is an IP address or a network. One of IPv4 in IPv6's form is none: connections never come from it. */}}
{{- define "usher.isNetwork" -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- $word := "[0-9A-Fa-f]{1,4}" -}}
{{- $four := printf "^%s([.]%s){3}(/(3[0-2]|[12]?[0-9]))?$" $byte $byte -}}
{{- $long := printf "^%s(:%s){7}(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?$" $word $word -}}
{{- $short := printf "^(%s(:%s)*)?::(%s(:%s)*)?(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?$" $word $word $word $word -}}
{{- $words := regexReplaceAll "/.*$" . "" | splitList ":" | compact | len -}}
{{- $mapped := regexMatch "^(?i)(::|(0{1,4}:){5}|0{0,4}(:0{1,4})*::(0{1,4}:)*)ffff:" . -}}
{{- if and (not $mapped) (or (regexMatch $four .) (regexMatch $long .) (and (regexMatch $short .) (le $words 7))) -}}true{{- end -}}
{{- end -}}
