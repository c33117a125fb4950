{{/* Alerts and dashboard find a gateway by these, however it is scraped. */}}
{{- define "usher.relabelings" -}}
- targetLabel: job
  replacement: {{ include "usher.fullname" . }}-ops
- sourceLabels: [__meta_kubernetes_pod_name]
  targetLabel: pod
- sourceLabels: [__meta_kubernetes_namespace]
  targetLabel: namespace
{{- end -}}
