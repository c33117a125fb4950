{{/* How the test reaches the gateways: (list context grpc-address public-address). */}}
{{- define "usher.testArguments" -}}
{{- $ := index . 0 -}}
- --config
- /etc/usher/config/usher.toml
- --grpc
- {{ ternary "https" "http" (ne $.Values.grpc.tls.existingSecret "") }}://{{ index . 1 }}
{{- if and (or $.Values.grpc.existingSecret (include "usher.fromEnv" (list $ "USHER_GRPC__TOKENS"))) (not $.Values.grpc.tls.existingSecret) }}
# The token is sent as the cluster's own services send it.
- --clear-token
{{- end }}
- --public
- {{ ternary "https" "http" (ne $.Values.public.tls.existingSecret "") }}://{{ index . 2 }}
{{- if $.Values.test.existingSecret }}
- --ca-file
- /etc/usher/test/ca.crt
{{- if $.Values.grpc.tls.clientCa }}
- --certificate-file
- /etc/usher/test/tls.crt
- --key-file
- /etc/usher/test/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{- define "usher.testMounts" -}}
{{- include "usher.volumeMounts" . }}
{{- if .Values.test.existingSecret }}
- name: test
  mountPath: /etc/usher/test
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
