{{/* Parts of a pool's StatefulSet. */}}
{{- define "weft.poolSelector" -}}
{{ include "weft.selector" (dict "root" .root "component" "worker") }}
weft/pool: {{ .pool.name }}
{{- end -}}

{{- define "weft.workerArguments" -}}
{{- $host := printf "$(POD_NAME).%s.%s.svc.%s" (include "weft.workers" .root) .root.Release.Namespace .root.Values.clusterDomain -}}
- --coordinator={{ include "weft.address" .root }}
- --name=$(POD_NAME)
- --state-dir=/var/lib/weft
- --data-root={{ .root.Values.storage.data.mountPath }}
- --listen=0.0.0.0:7734
- --advertise={{ $host }}:7734
- --metrics-listen=0.0.0.0:{{ .root.Values.metrics.port }}
- --grace={{ .pool.saveTime }}s
- --device={{ ternary "gpu" "cpu" (eq .pool.device "gpu") }}
{{- if .root.Values.tls.enabled }}
{{- $folder := include "weft.tlsFolder" . }}
- --tls-ca={{ $folder }}/ca.crt
- --tls-cert={{ $folder }}/tls.crt
- --tls-key={{ $folder }}/tls.key
{{- end }}
{{- with .pool.devices }}
- --devices={{ . }}
{{- end }}
{{- with .pool.threads }}
- --threads={{ . }}
{{- end }}
{{- range .pool.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Requests and limits with the pool's devices among them: devices are counted, so both are equal. */}}
{{- define "weft.workerResources" -}}
{{- $devices := dict -}}
{{- if eq .device "gpu" }}{{ $_ := set $devices "nvidia.com/gpu" (.gpus | default 1) }}{{ end -}}
{{- if eq .device "tpu" }}{{ $_ := set $devices "google.com/tpu" .tpu.chipsPerHost }}{{ end -}}
{{- $resources := dict -}}
{{- range $kind := list "requests" "limits" -}}
{{- $_ := set $resources $kind (merge (dict) $devices (get $.resources $kind | default dict)) -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{- define "weft.nodeSelector" -}}
{{- $selector := dict -}}
{{- if eq .device "tpu" -}}
{{- $_ := set $selector "cloud.google.com/gke-tpu-accelerator" .tpu.accelerator -}}
{{- $_ := set $selector "cloud.google.com/gke-tpu-topology" .tpu.topology -}}
{{- end -}}
{{- with merge (dict) $selector .nodeSelector }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "weft.tolerations" -}}
{{- $tolerations := .tolerations -}}
{{- range $device, $taint := dict "gpu" "nvidia.com/gpu" "tpu" "google.com/tpu" -}}
{{- if eq $.device $device -}}
{{- $tolerations = append $tolerations (dict "key" $taint "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- end -}}
{{- with $tolerations }}{{ toYaml . }}{{ end -}}
{{- end -}}
