{{/*
What the pods say to a mesh's sidecar. A sidecar that ends at the pod's SIGTERM cuts every
session at once, before the gateway has sent any away; that is what most of this is for.
*/}}
{{- define "usher.meshAnnotations" -}}
{{- $drain := include "usher.drainSeconds" . | int -}}
{{- if and (eq .Values.mesh.type "istio") (not .Values.mesh.ambient) }}
{{- /*
The sidecar ends when no connection is left, however long that takes within the grace period; by
itself it would end 5 s after SIGTERM. A native sidecar hears of it only after the gateway, so it
need not wait beyond that; another waits at least drain.delay and 5 s, since in that time newcomers
are still admitted. It starts before the gateway, which would find neither NATS nor Redis without it.
*/}}
proxy.istio.io/config: |
  holdApplicationUntilProxyStarts: true
  proxyMetadata:
    EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "true"
    MINIMUM_DRAIN_DURATION: {{ if .Values.mesh.nativeSidecar }}1{{ else }}{{ add 5 (include "usher.seconds" .Values.drain.delay | int) }}{{ end }}s
  terminationDrainDuration: {{ add $drain 5 }}s
{{- if .Values.mesh.nativeSidecar }}
sidecar.istio.io/nativeSidecar: "true"
{{- end }}
{{- else if eq .Values.mesh.type "linkerd" }}
linkerd.io/inject: enabled
{{- /* It starts before the gateway, which would find neither NATS nor Redis without it. */}}
config.linkerd.io/proxy-await: enabled
{{- if .Values.mesh.nativeSidecar }}
{{- /* A native sidecar ends after the gateway, by Kubernetes's own order. */}}
config.beta.linkerd.io/proxy-enable-native-sidecar: "true"
{{- else }}
{{- /* It hears of SIGTERM only when the gateway has sent its sessions away. */}}
config.alpha.linkerd.io/proxy-wait-before-exit-seconds: "{{ add $drain 5 }}"
{{- end }}
{{- /* Then it waits for the connections that are left, and no longer than the grace period. */}}
config.linkerd.io/shutdown-grace-period: {{ include "usher.gracePeriodSeconds" . }}s
{{- end }}
{{- end -}}

{{- define "usher.meshLabels" -}}
{{- if .Values.mesh.ambient }}
istio.io/dataplane-mode: ambient
{{- else if eq .Values.mesh.type "istio" }}
sidecar.istio.io/inject: "true"
{{- end }}
{{- end -}}
