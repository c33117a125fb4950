{{/* The program's configuration, docs/configuration.md, made of the values. */}}

{{/* A section: (list name values). Keys get the program's spelling; what is empty is left out, and so are maps. */}}
{{- define "usher.toml.section" }}
[{{ index . 0 }}]
{{- range $key, $value := index . 1 }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (and (kindIs "string" $value) (eq $value ""))) }}
{{ snakecase $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "usher.toml" -}}
{{- $v := .Values -}}
{{- $at := "/etc/usher/secrets" -}}
{{- $tls := "/etc/usher/tls" -}}

{{- $public := omit $v.public "port" -}}
{{- $_ := set $public "listen" (printf "%s:%d" $v.listenAddress (int $v.public.port)) -}}
{{- include "usher.toml.section" (list "public" $public) }}
{{- if $v.public.tls.existingSecret }}

[public.tls]
certificate_file = "{{ $tls }}/public/tls.crt"
key_file = "{{ $tls }}/public/tls.key"
{{- end }}
{{ $grpc := omit $v.grpc "port" "existingSecret" "tokensKey" "allowAnonymous" }}
{{- $_ := set $grpc "listen" (printf "%s:%d" $v.listenAddress (int $v.grpc.port)) }}
{{- if include "usher.anonymous" . }}{{ $_ := set $grpc "allowAnonymous" true }}{{ end }}
{{- if $v.grpc.existingSecret }}{{ $_ := set $grpc "tokensFile" (printf "%s/grpc/%s" $at $v.grpc.tokensKey) }}{{ end }}
{{- include "usher.toml.section" (list "grpc" $grpc) }}
{{- if $v.grpc.tls.existingSecret }}

[grpc.tls]
certificate_file = "{{ $tls }}/grpc/tls.crt"
key_file = "{{ $tls }}/grpc/tls.key"
{{- if $v.grpc.tls.clientCa }}
client_ca_file = "{{ $tls }}/grpc/ca.crt"
{{- end }}
{{- end }}
{{ $ops := omit $v.ops "port" }}
{{- $_ := set $ops "listen" (printf "%s:%d" $v.listenAddress (int $v.ops.port)) }}
{{- include "usher.toml.section" (list "ops" $ops) }}
{{ $nats := omit $v.nats "url" "existingSecret" "urlKey" "credentialsKey" "nkeySeedKey" "tokenKey" "passwordKey" }}
{{- with $v.nats.urlKey }}{{ $_ := set $nats "urlFile" (printf "%s/nats/%s" $at .) }}{{ else }}{{ $_ := set $nats "url" (include "usher.natsUrl" $) }}{{ end }}
{{- with $v.nats.credentialsKey }}{{ $_ := set $nats "credentialsFile" (printf "%s/nats/%s" $at .) }}{{ end }}
{{- with $v.nats.nkeySeedKey }}{{ $_ := set $nats "nkeySeedFile" (printf "%s/nats/%s" $at .) }}{{ end }}
{{- with $v.nats.tokenKey }}{{ $_ := set $nats "tokenFile" (printf "%s/nats/%s" $at .) }}{{ end }}
{{- with $v.nats.passwordKey }}{{ $_ := set $nats "passwordFile" (printf "%s/nats/%s" $at .) }}{{ end }}
{{- include "usher.toml.section" (list "nats" $nats) }}
{{- if or $v.nats.tls.existingSecret $v.nats.tls.caConfigMap }}

[nats.tls]
ca_file = "{{ $tls }}/nats/ca.crt"
{{- if $v.nats.tls.clientCertificate }}
certificate_file = "{{ $tls }}/nats/tls.crt"
key_file = "{{ $tls }}/nats/tls.key"
{{- end }}
{{- end }}
{{ $redis := omit $v.redis "url" "existingSecret" "urlKey" "passwordKey" }}
{{- with $v.redis.urlKey }}{{ $_ := set $redis "urlFile" (printf "%s/redis/%s" $at .) }}{{ else }}{{ $_ := set $redis "url" (include "usher.redisUrl" $) }}{{ end }}
{{- with $v.redis.passwordKey }}{{ $_ := set $redis "passwordFile" (printf "%s/redis/%s" $at .) }}{{ end }}
{{- include "usher.toml.section" (list "redis" $redis) }}
{{- if include "usher.withoutRedis" . }}
url = ""
{{- end }}
{{- if or $v.redis.sentinel.user $v.redis.sentinel.passwordKey }}
{{ $sentinel := omit $v.redis.sentinel "passwordKey" }}
{{- with $v.redis.sentinel.passwordKey }}{{ $_ := set $sentinel "passwordFile" (printf "%s/redis/%s" $at .) }}{{ end }}
{{- include "usher.toml.section" (list "redis.sentinel" $sentinel) }}
{{- end }}
{{- if or $v.redis.tls.existingSecret $v.redis.tls.caConfigMap }}

[redis.tls]
ca_file = "{{ $tls }}/redis/ca.crt"
{{- if $v.redis.tls.clientCertificate }}
certificate_file = "{{ $tls }}/redis/tls.crt"
key_file = "{{ $tls }}/redis/tls.key"
{{- end }}
{{- end }}
{{ include "usher.toml.section" (list "tickets" $v.tickets) }}
{{- if include "usher.jwt" . }}
{{ $jwt := omit $v.tickets.jwt "existingSecret" "secretKey" "publicKeyKey" }}
{{- with $v.tickets.jwt.secretKey }}{{ $_ := set $jwt "secretFile" (printf "%s/jwt/%s" $at .) }}{{ end }}
{{- with $v.tickets.jwt.publicKeyKey }}{{ $_ := set $jwt "publicKeyFile" (printf "%s/jwt/%s" $at .) }}{{ end }}
{{- include "usher.toml.section" (list "tickets.jwt" $jwt) }}
{{- if or $v.tickets.jwt.tls.existingSecret $v.tickets.jwt.tls.caConfigMap }}

[tickets.jwt.tls]
ca_file = "{{ $tls }}/jwt/ca.crt"
{{- end }}
{{- end }}
{{- if $v.durable.enabled }}
{{ include "usher.toml.section" (list "durable" $v.durable) }}
{{ include "usher.toml.section" (list "offline" $v.offline) }}
{{- end }}
{{ include "usher.toml.section" (list "presence" $v.presence) }}
{{ include "usher.toml.section" (list "topics" $v.topics) }}
{{ include "usher.toml.section" (list "calls" $v.calls) }}
{{- if $v.centrifuge.enabled }}
{{ include "usher.toml.section" (list "centrifuge" $v.centrifuge) }}
{{- end }}
{{ include "usher.toml.section" (list "session" $v.session) }}
{{ include "usher.toml.section" (list "drain" $v.drain) }}
{{ include "usher.toml.section" (list "log" $v.log) }}
{{- if or $v.telemetry.otlpEndpoint (include "usher.fromEnv" (list . "USHER_TELEMETRY__OTLP_ENDPOINT")) }}
{{ include "usher.toml.section" (list "telemetry" $v.telemetry) }}
{{- end }}
{{ end -}}

{{/* What tokens are checked with: the names of values, whose keys extraEnv may give instead. Empty: no token is judged. */}}
{{- define "usher.jwt" -}}
{{- range $name, $variable := dict "secretKey" "SECRET" "publicKeyKey" "PUBLIC_KEY" "jwksUrl" "JWKS_URL" "oidcIssuer" "OIDC_ISSUER" -}}
{{- if get $.Values.tickets.jwt $name }} {{ $name }}{{ end -}}
{{- if include "usher.fromEnv" (list $ (print "USHER_TICKETS__JWT__" $variable)) }} {{ $name }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Whether tokens alone open sessions. */}}
{{- define "usher.withoutRedis" -}}
{{- if and .Values.tickets.jwt.connect (not (or .Values.demo.enabled .Values.redis.url .Values.redis.urlKey (include "usher.fromEnv" (list . "USHER_REDIS__URL")))) -}}true{{- end -}}
{{- end -}}

{{/* The Secrets that become files: a YAML map of folder below /etc/usher to Secret. */}}
{{- define "usher.files" -}}
{{- $v := .Values -}}
{{- with $v.grpc.existingSecret }}
secrets/grpc: {{ . | quote }}
{{- end }}
{{- with $v.nats.existingSecret }}
secrets/nats: {{ . | quote }}
{{- end }}
{{- with $v.redis.existingSecret }}
secrets/redis: {{ . | quote }}
{{- end }}
{{- with $v.tickets.jwt.existingSecret }}
secrets/jwt: {{ . | quote }}
{{- end }}
{{- with $v.public.tls.existingSecret }}
tls/public: {{ . | quote }}
{{- end }}
{{- with $v.grpc.tls.existingSecret }}
tls/grpc: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* What vouches for other servers: a YAML map of folder below /etc/usher to the values that name its Secret or ConfigMap. */}}
{{- define "usher.trusts" -}}
{{- range $folder, $tls := dict "tls/nats" .Values.nats.tls "tls/redis" .Values.redis.tls "tls/jwt" .Values.tickets.jwt.tls }}
{{- if or $tls.existingSecret $tls.caConfigMap }}
{{ $folder }}: {{ toJson $tls }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Volumes and mounts of the configuration and of those Secrets; the test pod has the same. */}}
{{- define "usher.volumes" -}}
- name: config
  configMap:
    name: {{ include "usher.fullname" . }}
{{- range $folder, $secret := include "usher.files" . | fromYaml }}
- name: {{ $folder | replace "/" "-" }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 288 # 0440
{{- end }}
{{- range $folder, $tls := include "usher.trusts" . | fromYaml }}
- name: {{ $folder | replace "/" "-" }}
  {{- if $tls.caConfigMap }}
  projected:
    defaultMode: 288 # 0440
    sources:
      - configMap:
          name: {{ $tls.caConfigMap }}
          items:
            - key: {{ $tls.caKey | quote }}
              path: ca.crt
      {{- if $tls.clientCertificate }}
      - secret:
          name: {{ $tls.existingSecret }}
          items:
            - {key: tls.crt, path: tls.crt}
            - {key: tls.key, path: tls.key}
      {{- end }}
  {{- else }}
  secret:
    secretName: {{ $tls.existingSecret }}
    defaultMode: 288 # 0440
  {{- end }}
{{- end }}
{{- end -}}

{{- define "usher.volumeMounts" -}}
- name: config
  mountPath: /etc/usher/config
  readOnly: true
{{- range $folder, $secret := include "usher.files" . | fromYaml }}
- name: {{ $folder | replace "/" "-" }}
  mountPath: /etc/usher/{{ $folder }}
  readOnly: true
{{- end }}
{{- range $folder, $_ := include "usher.trusts" . | fromYaml }}
- name: {{ $folder | replace "/" "-" }}
  mountPath: /etc/usher/{{ $folder }}
  readOnly: true
{{- end }}
{{- end -}}
