{{/* TLS: which Secret a party has, where its pods see it, and the names in its certificate. */}}
{{- define "weft.tlsFolder" -}}/etc/weft-tls{{- end -}}

{{/* dict "root" $ "party" "coordinator"|"workers"|"client" */}}
{{- define "weft.tlsSecret" -}}
{{- $given := get .root.Values.tls.secrets .party -}}
{{- if $given -}}
{{- $given -}}
{{- else if .root.Values.tls.certManager.enabled -}}
{{- printf "%s-%s-tls" (include "weft.fullname" .root) .party -}}
{{- else -}}
{{- fail (printf "tls.enabled: name a Secret in tls.secrets.%s, or have cert-manager make it with tls.certManager.enabled" .party) -}}
{{- end -}}
{{- end -}}

{{/* Whole folders are mounted, no single files: so a renewed Secret reaches a pod that runs. */}}
{{- define "weft.tlsVolume" -}}
- name: tls
  secret: {secretName: {{ include "weft.tlsSecret" . }}, defaultMode: 0440}
{{- end -}}

{{- define "weft.tlsMount" -}}
- {name: tls, mountPath: {{ include "weft.tlsFolder" . }}, readOnly: true}
{{- end -}}

{{/* What `weft` in a pod needs, as variables. */}}
{{- define "weft.tlsClientEnv" -}}
{{- $folder := include "weft.tlsFolder" . -}}
- {name: WEFT_TLS_CA, value: {{ $folder }}/ca.crt}
- {name: WEFT_TLS_CERT, value: {{ $folder }}/tls.crt}
- {name: WEFT_TLS_KEY, value: {{ $folder }}/tls.key}
{{- end -}}

{{/* The coordinator's names: of its Services, and of this machine for `kubectl port-forward`. */}}
{{- define "weft.coordinatorDnsNames" -}}
{{- $service := include "weft.coordinator" . -}}
{{- $namespace := printf "%s.svc" .Release.Namespace -}}
- {{ $service }}
- {{ $service }}.{{ .Release.Namespace }}
{{- range $suffix := list $namespace (printf "%s.%s" $namespace .Values.clusterDomain) }}
- {{ $service }}.{{ $suffix }}
{{- if not $.Values.coordinator.postgres.connection }}
- {{ printf "*.%s-headless.%s" $service $suffix | quote }}
{{- end }}
{{- end }}
- localhost
{{- with .Values.tls.certManager.dnsNames }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* dict "root" $ "name" "..." "party" "..." "usages" list: a Certificate up to its names. */}}
{{- define "weft.certificate" -}}
{{- $manager := .root.Values.tls.certManager -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "weft.metadata" (dict "root" .root "component" .component "name" (printf "%s-%s" (include "weft.fullname" .root) .party)) | nindent 2 }}
spec:
  secretName: {{ include "weft.tlsSecret" . }}
  issuerRef:
    {{- if $manager.issuerRef.name }}
    {{- toYaml $manager.issuerRef | nindent 4 }}
    {{- else }}
    {name: {{ include "weft.fullname" .root }}-authority, kind: Issuer, group: cert-manager.io}
    {{- end }}
  duration: {{ $manager.duration }}
  renewBefore: {{ $manager.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [{{ join ", " .usages }}]
  commonName: {{ printf "%s-%s" (include "weft.fullname" .root) .party }}
{{- end -}}
