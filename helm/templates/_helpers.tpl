{{/* Names, labels, images, and what values mean in numbers. */}}

{{/* At most 40 characters, so that every suffix fits. Of a longer name a part and a hash: two that begin alike stay two. */}}
{{- define "usher.short" -}}
{{- if le (len .) 40 -}}{{ . }}{{- else -}}{{ trunc 31 . | trimSuffix "-" }}-{{ sha256sum . | trunc 8 }}{{- end -}}
{{- end -}}

{{- define "usher.name" -}}
{{- include "usher.short" (default .Chart.Name .Values.nameOverride) -}}
{{- end -}}

{{- define "usher.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- include "usher.short" .Values.fullnameOverride -}}
{{- else if contains (include "usher.name" .) .Release.Name -}}
{{- include "usher.short" .Release.Name -}}
{{- else -}}
{{- include "usher.short" (printf "%s-%s" .Release.Name (include "usher.name" .)) -}}
{{- end -}}
{{- end -}}

{{- define "usher.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "usher.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Maps as one: a key that several have gets the first one's value. A list of maps. */}}
{{- define "usher.merged" -}}
{{- $all := dict -}}
{{- range . -}}
{{- /* Not sprig's merge, for which an empty text is none. */ -}}
{{- range $key, $value := . -}}
{{- if not (hasKey $all $key) -}}{{- $_ := set $all $key $value -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* What selects pods: these two and no more, since a Deployment can't change them. */}}
{{- define "usher.selectorLabels" -}}
app.kubernetes.io/name: {{ include "usher.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Objects beside the gateway, which its selectors must not find: (list context component). */}}
{{- define "usher.besideSelectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "usher.name" $ }}-{{ index . 1 }}
app.kubernetes.io/instance: {{ $.Release.Name }}
{{- end -}}

{{/*
What pods have besides: (list context component). No version is among them, or each version of
the chart would replace all pods.
*/}}
{{- define "usher.otherLabels" -}}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: usher
{{- end -}}

{{/* What an object has besides. */}}
{{- define "usher.versionLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* By which Helm knows its own objects, so nobody changes it. */}}
{{- define "usher.helmLabels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The labels of an object of the gateway: (list context more-labels). */}}
{{- define "usher.labelsWith" -}}
{{- $ := index . 0 -}}
{{- include "usher.merged" (list
  (include "usher.selectorLabels" $ | fromYaml)
  (include "usher.helmLabels" $ | fromYaml)
  (index . 1) $.Values.commonLabels
  (include "usher.otherLabels" (list $ "gateway") | fromYaml)
  (include "usher.versionLabels" $ | fromYaml)) -}}
{{- end -}}

{{- define "usher.labels" -}}
{{- include "usher.labelsWith" (list . dict) -}}
{{- end -}}

{{/* The labels of a gateway's pod. */}}
{{- define "usher.podLabels" -}}
{{- include "usher.merged" (list
  (include "usher.selectorLabels" . | fromYaml)
  .Values.podLabels (include "usher.meshLabels" . | fromYaml) .Values.commonLabels
  (include "usher.otherLabels" (list . "gateway") | fromYaml)
  (include "usher.helmLabels" . | fromYaml)) -}}
{{- end -}}

{{/* The labels of an object beside the gateway: (list context component). */}}
{{- define "usher.besideLabels" -}}
{{- $ := index . 0 -}}
{{- include "usher.merged" (list
  (include "usher.besideSelectorLabels" . | fromYaml)
  (include "usher.helmLabels" $ | fromYaml)
  $.Values.commonLabels
  (include "usher.otherLabels" . | fromYaml)
  (include "usher.versionLabels" $ | fromYaml)) -}}
{{- end -}}

{{/* The labels of a pod beside the gateway: (list context component). */}}
{{- define "usher.besidePodLabels" -}}
{{- $ := index . 0 -}}
{{- include "usher.merged" (list
  (include "usher.besideSelectorLabels" . | fromYaml)
  $.Values.commonLabels
  (include "usher.otherLabels" . | fromYaml)
  (include "usher.helmLabels" $ | fromYaml)) -}}
{{- end -}}

{{/* The annotations of an object: (list context its-own). */}}
{{- define "usher.annotations" -}}
{{- $all := include "usher.merged" (list (index . 1) (index . 0).Values.commonAnnotations) -}}
{{- if ne $all "{}" -}}{{ $all }}{{- end -}}
{{- end -}}

{{/* The families of addresses of a Service. */}}
{{- define "usher.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image: (list context image default-tag). */}}
{{- define "usher.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $image.registry ($.Values.global).imageRegistry -}}
{{- with $registry -}}{{ . | trimSuffix "/" }}/{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}@{{ $image.digest }}{{- else -}}:{{ $image.tag | default (index . 2) }}{{- end -}}
{{- end -}}

{{/* A duration of Usher's, such as 25s or 500ms, in milliseconds. */}}
{{- define "usher.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) -}}
{{- end -}}

{{/* The same in whole seconds, rounded up. */}}
{{- define "usher.seconds" -}}
{{- div (add (include "usher.milliseconds" . | int64) 999) 1000 -}}
{{- end -}}

{{/* A size of Usher's, such as 256MiB, in bytes. */}}
{{- define "usher.bytes" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[A-Za-z]+$" . -}}
{{- mul $number (get (dict "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824) $unit) -}}
{{- end -}}

{{/* A quantity of memory of Kubernetes's, such as 512Mi, in bytes; 0 where it is none that we know. */}}
{{- define "usher.quantity" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $factor := get (dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) $unit -}}
{{- if and $factor (regexMatch "^[0-9]+(\\.[0-9]+)?[A-Za-z]*$" $text) -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) $factor | floor | int64 -}}
{{- else -}}0{{- end -}}
{{- end -}}

{{/* The memory that a gateway may come to need: the formula of docs/operations.md. */}}
{{- define "usher.memory" -}}
{{- $calls := include "usher.bytes" .Values.grpc.maxInFlightBytes | int64 -}}
{{- $queues := include "usher.bytes" .Values.session.totalQueueBytes | int64 -}}
{{- $replay := ternary (include "usher.bytes" .Values.durable.replayBytes | int64) 0 .Values.durable.enabled -}}
{{- /* Of TLS each session keeps state and buffers. */ -}}
{{- $session := ternary 10500 4096 (ne .Values.public.tls.existingSecret "") -}}
{{- add 20000000 (mul $session (int64 .Values.public.maxSessions)) (div (mul 12 $queues) 10) $calls $replay -}}
{{- end -}}

{{/* From the signal to the last session's end. */}}
{{- define "usher.drainSeconds" -}}
{{- $delay := include "usher.milliseconds" .Values.drain.delay | int64 -}}
{{- $window := include "usher.milliseconds" .Values.drain.window | int64 -}}
{{- div (add $delay $window 999) 1000 -}}
{{- end -}}

{{/* The same, and then until services were told who has gone, and 10 s. */}}
{{- define "usher.gracePeriodSeconds" -}}
{{- $told := 0 -}}
{{- if .Values.presence.events -}}
{{- $told = add 5 (div (add (include "usher.milliseconds" .Values.presence.offlineDelay | int64) 999) 1000) -}}
{{- end -}}
{{- add 10 $told (include "usher.drainSeconds" . | int64) -}}
{{- end -}}

{{/* How long a proxy may hear nothing: three pings. */}}
{{- define "usher.idleSeconds" -}}
{{- $ping := include "usher.milliseconds" .Values.session.pingInterval | int64 -}}
{{- div (add (mul 3 $ping) 999) 1000 -}}
{{- end -}}

{{- define "usher.appProtocol" -}}
{{- .Values.service.appProtocol | default (ternary "https" "http" (ne .Values.public.tls.existingSecret "")) -}}
{{- end -}}

{{- define "usher.natsUrl" -}}
{{- if .Values.demo.enabled -}}nats://{{ include "usher.fullname" . }}-demo-nats:4222{{- else -}}{{ .Values.nats.url }}{{- end -}}
{{- end -}}

{{- define "usher.redisUrl" -}}
{{- if .Values.demo.enabled -}}redis://{{ include "usher.fullname" . }}-demo-redis:6379{{- else -}}{{ .Values.redis.url }}{{- end -}}
{{- end -}}

{{/* Whether extraEnv gives a key of the program, itself or by a file: (list context variable). */}}
{{- define "usher.fromEnv" -}}
{{- $variable := index . 1 -}}
{{- range (index . 0).Values.extraEnv -}}
{{- if has .name (list $variable (print $variable "_FILE")) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Callers of the push API have to show something. */}}
{{- define "usher.knowsCallers" -}}
{{- if or .Values.grpc.existingSecret .Values.grpc.tls.clientCa (include "usher.fromEnv" (list . "USHER_GRPC__TOKENS")) (include "usher.fromEnv" (list . "USHER_GRPC__TLS__CLIENT_CA")) -}}true{{- end -}}
{{- end -}}

{{/* Nothing guards the push API; so it is in a demo without a Secret. */}}
{{- define "usher.anonymous" -}}
{{- if and (not (include "usher.knowsCallers" .)) (or .Values.grpc.allowAnonymous .Values.demo.enabled) -}}true{{- end -}}
{{- end -}}

{{/*
How many gateways the Deployment asks for; empty: it does not say. Where an autoscaler decides,
that is the number that runs now: a Deployment that loses the field falls back to one gateway.
Without a cluster (helm template, and so Argo CD) nothing is known of what runs.
*/}}
{{- define "usher.replicas" -}}
{{- if or .Values.autoscaling.enabled (kindIs "invalid" .Values.replicaCount) -}}
{{- $live := lookup "apps/v1" "Deployment" .Release.Namespace (include "usher.fullname" .) -}}
{{- with $live -}}{{- .spec.replicas -}}{{- end -}}
{{- else -}}
{{- .Values.replicaCount -}}
{{- end -}}
{{- end -}}

{{/* Whether the test pod has what it needs. */}}
{{- define "usher.canTest" -}}
{{- $encrypted := or .Values.public.tls.existingSecret .Values.grpc.tls.existingSecret -}}
{{- if and .Values.test.enabled (not (include "usher.withoutRedis" .)) (or (not $encrypted) .Values.test.existingSecret) -}}true{{- end -}}
{{- end -}}

{{- define "usher.meshNamespace" -}}
{{- .Values.mesh.namespace | default (ternary "istio-system" "linkerd" (eq .Values.mesh.type "istio")) -}}
{{- end -}}

{{/* The public paths, as the browser asks for them. */}}
{{- define "usher.paths" -}}
{{- $prefix := .Values.public.pathPrefix -}}
{{- range list "/ws" "/events" "/tickets" }}
- {{ $prefix }}{{ . }}
{{- end }}
{{- if .Values.centrifuge.enabled }}
- {{ $prefix }}/connection/websocket
{{- end }}
{{- end -}}

{{/* Where Prometheus finds this release's metrics, in its own words. */}}
{{- define "usher.metricsSelector" -}}
namespace="{{ .Release.Namespace }}",job="{{ include "usher.fullname" . }}-ops"
{{- end -}}
