{{- define "rayworkflow.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "rayworkflow.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "rayworkflow.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "rayworkflow.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "rayworkflow.serviceAccount" -}}
{{- default (include "rayworkflow.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{/* Selector labels, called with (dict "root" . "component" "operator"). They must not change during an upgrade. */}}
{{- define "rayworkflow.selector" -}}
app.kubernetes.io/name: {{ include "rayworkflow.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "rayworkflow.labels" -}}
{{ include "rayworkflow.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: rayworkflow
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "rayworkflow.minio" -}}
{{- printf "%s-minio" (include "rayworkflow.fullname" .) }}
{{- end }}

{{- define "rayworkflow.minioSecret" -}}
{{- default (include "rayworkflow.minio" .) .Values.minio.existingSecret }}
{{- end }}

{{- define "rayworkflow.storageUri" -}}
{{- if .Values.storage.uri }}{{ .Values.storage.uri }}{{ else if .Values.minio.enabled }}s3://workflows{{ end }}
{{- end }}

{{- define "rayworkflow.storageEndpoint" -}}
{{- if .Values.storage.endpoint }}{{ .Values.storage.endpoint }}
{{- else if and .Values.minio.enabled (not .Values.storage.uri) }}
{{- printf "http://%s.%s.svc:9000" (include "rayworkflow.minio" .) .Release.Namespace }}
{{- end }}
{{- end }}

{{/* Ports of the storage, separated by commas. */}}
{{- define "rayworkflow.storagePorts" -}}
{{- $endpoint := urlParse (default "https://s3" (include "rayworkflow.storageEndpoint" . | trim)) }}
{{- if .Values.networkPolicy.storagePorts }}
{{- join "," .Values.networkPolicy.storagePorts }}
{{- else if regexMatch ":[0-9]+$" $endpoint.host }}
{{- regexFind "[0-9]+$" $endpoint.host }}
{{- else }}
{{- ternary "80" "443" (eq $endpoint.scheme "http") }}
{{- end }}
{{- end }}

{{/* Security context of the operator and MinIO pods, for the Pod Security Standard "restricted". */}}
{{- define "rayworkflow.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "rayworkflow.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/*
The namespaces of watchNamespaces that accept objects, as a JSON array. A namespace that does not exist or is being
deleted is left out, because Helm would fail there. Without a cluster, as in `helm template`, all are returned.
*/}}
{{- define "rayworkflow.namespaces" -}}
{{- $found := list }}
{{- $connected := and .Values.namespaceDeletion.skipUnavailable (lookup "v1" "Namespace" "" .Release.Namespace) }}
{{- range .Values.watchNamespaces }}
{{- if $connected }}
{{- $namespace := lookup "v1" "Namespace" "" . }}
{{- if and $namespace (not $namespace.metadata.deletionTimestamp) }}
{{- $found = append $found . }}
{{- end }}
{{- else }}
{{- $found = append $found . }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}
