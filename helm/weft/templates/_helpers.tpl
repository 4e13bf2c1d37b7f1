{{/* Names. "weft.fullname" is the common part; every object adds what it is. */}}
{{- define "weft.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "weft.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "weft.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "weft.coordinator" -}}{{ include "weft.fullname" . }}-coordinator{{- end -}}
{{- define "weft.workers" -}}{{ include "weft.fullname" . }}-workers{{- end -}}
{{- define "weft.checkpointClaim" -}}
{{- .Values.storage.checkpoints.existingClaim | default (printf "%s-checkpoints" (include "weft.fullname" .)) -}}
{{- end -}}
{{- define "weft.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "weft.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}
{{/* Where the API is, as programs take it: host:port. */}}
{{- define "weft.address" -}}
{{ include "weft.coordinator" . }}.{{ .Release.Namespace }}.svc:{{ .Values.coordinator.service.port }}
{{- end -}}

{{/* A pod of a pool is a worker, and a worker's name has at most 40 characters: here with four digits of ordinal. */}}
{{- define "weft.poolName" -}}
{{- $name := printf "%s-%s" (include "weft.fullname" .root) .pool.name -}}
{{- if gt (len $name) 35 -}}
{{- fail (printf "worker pool %q: its pods would be named %s-0; at most 35 characters are allowed before the number, since a worker's name has at most 40: shorten the release's name, fullnameOverride or the pool's name" .pool.name $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Labels: of all objects, and those by which objects find their pods. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: {{ include "weft.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "weft.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "weft.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weft
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The head of an object: dict "root" $ "component" "coordinator" "name" "..." ["annotations" dict] ["namespace"] */}}
{{- define "weft.metadata" -}}
name: {{ .name }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- include "weft.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A whole image reference: dict "root" $ "name" "coordinator" */}}
{{- define "weft.image" -}}
{{- $image := .root.Values.image -}}
{{- $registry := .root.Values.global.imageRegistry | default $image.registry -}}
{{- $path := printf "%s/%s" $image.repository .name -}}
{{- if $registry }}{{ $path = printf "%s/%s" $registry $path }}{{ end -}}
{{- $digest := get $image.digests .name -}}
{{- if $digest -}}
{{ $path }}@{{ $digest }}
{{- else -}}
{{ $path }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What every pod of ours has. dict "root" $ */}}
{{- define "weft.pod" -}}
serviceAccountName: {{ include "weft.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* What every container of ours has. */}}
{{- define "weft.container" -}}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "weft.probe" -}}
httpGet: {path: {{ . }}, port: metrics}
timeoutSeconds: 5
{{- end -}}
