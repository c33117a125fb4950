{{/* Alerts and dashboard find a gateway by these, however it is scraped. */}}
{{- define "usher.relabelings" -}}
- action: replace
  targetLabel: job
  replacement: {{ include "usher.fullname" . }}-ops
- action: replace
  sourceLabels: [__meta_kubernetes_pod_name]
  targetLabel: pod
- action: replace
  sourceLabels: [__meta_kubernetes_namespace]
  targetLabel: namespace
# The operator names the port here. It would push aside the label of usher_service_requests_total.
- action: labeldrop
  regex: endpoint
{{- end -}}

{{/* Where to read what to do: (list context anchor). Nothing, where nobody has said where the page is. */}}
{{- define "usher.runbook" -}}
{{- $anchor := index . 1 -}}
{{- with (index . 0).Values.prometheusRule.runbookUrl -}}
runbook_url: {{ . }}#{{ $anchor }}
{{- end -}}
{{- end -}}
