{{/*
What can't be, in words: which value, why, and the mend. values.schema.json sees a
value by itself; here they are seen together. All complaints come at once.
*/}}
{{- define "usher.validate" -}}
{{- $v := .Values -}}
{{- $bad := list -}}
{{- $ways := or $v.httpRoute.enabled $v.traefik.enabled $v.nginx.enabled -}}

{{- range compact (splitList "\n" (include "usher.wrongValues" .)) -}}
  {{- $bad = append $bad . -}}
{{- end -}}
{{- $name := include "usher.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
  {{- $bad = append $bad (printf "%s can be no Service's name, which is small letters, digits and -, with a letter first: set fullnameOverride, such as --set fullnameOverride=usher" $name) -}}
{{- end -}}
{{- if and $v.nameOverride (not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" $v.nameOverride)) -}}
  {{- $bad = append $bad (printf "nameOverride (%s) must be small letters, digits and -, with a letter or digit at both ends" $v.nameOverride) -}}
{{- end -}}
{{- if and $v.serviceAccount.name (not (regexMatch "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$" $v.serviceAccount.name)) -}}
  {{- $bad = append $bad (printf "serviceAccount.name (%s) must be small letters, digits, - and ., with a letter or digit at both ends" $v.serviceAccount.name) -}}
{{- end -}}

{{- range $probe := list "livenessProbe" "readinessProbe" "startupProbe" -}}
  {{- range $handler := list "httpGet" "exec" "tcpSocket" "grpc" -}}
    {{- if hasKey (get $v $probe | default dict) $handler -}}
      {{- $bad = append $bad (printf "%s.%s: the chart says what is asked; give times and thresholds only, or %s=null for none" $probe $handler $probe) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- if $v.demo.enabled -}}
  {{- if or $v.nats.url $v.nats.urlKey -}}
    {{- $bad = append $bad "demo.enabled brings its own NATS, but nats.url or nats.urlKey is given too: keep one of the two" -}}
  {{- end -}}
  {{- if or $v.redis.url $v.redis.urlKey -}}
    {{- $bad = append $bad "demo.enabled brings its own Redis, but redis.url or redis.urlKey is given too: keep one of the two" -}}
  {{- end -}}
{{- else -}}
  {{- if not (or $v.nats.url $v.nats.urlKey (include "usher.fromEnv" (list $ "USHER_NATS__URL"))) -}}
    {{- $bad = append $bad "nats.url is required: where your NATS is, such as --set nats.url=nats://nats.nats.svc:4222, or nats.existingSecret and nats.urlKey where the URL is secret. For a look without either server: --set demo.enabled=true" -}}
  {{- end -}}
  {{- if not (or $v.redis.url $v.redis.urlKey $v.tickets.jwt.connect (include "usher.fromEnv" (list $ "USHER_REDIS__URL"))) -}}
    {{- $bad = append $bad "redis.url is required: where tickets are kept, such as --set redis.url=redis://redis.redis.svc:6379, or redis.existingSecret and redis.urlKey where the URL is secret; none where tokens alone open sessions (tickets.jwt.connect). For a look without either server: --set demo.enabled=true" -}}
  {{- end -}}
  {{- if not (or (include "usher.knowsCallers" .) $v.grpc.allowAnonymous) -}}
    {{- $bad = append $bad "grpc.existingSecret is required, since whoever reaches the push API could be any user: kubectl create secret generic usher-grpc --from-literal=tokens=$(openssl rand -hex 32), then --set grpc.existingSecret=usher-grpc; or grpc.tls.existingSecret with grpc.tls.clientCa=true; or USHER_GRPC__TOKENS_FILE in extraEnv, where a file comes from elsewhere (Vault, a CSI driver); or grpc.allowAnonymous=true where something else guards the way" -}}
  {{- end -}}
{{- end -}}
{{- if and $v.grpc.existingSecret (include "usher.fromEnv" (list . "USHER_GRPC__TOKENS")) -}}
  {{- $bad = append $bad "grpc.existingSecret and USHER_GRPC__TOKENS in extraEnv are two sources of callers' tokens: keep one" -}}
{{- end -}}
{{- if and $v.grpc.allowAnonymous (include "usher.knowsCallers" .) -}}
  {{- $bad = append $bad "grpc.allowAnonymous says that callers need nothing, but grpc.existingSecret, grpc.tls.clientCa or extraEnv asks them for something: keep one of the two" -}}
{{- end -}}
{{- if and $v.grpc.tls.clientCa (not $v.grpc.tls.existingSecret) -}}
  {{- $bad = append $bad "grpc.tls.clientCa needs TLS: set grpc.tls.existingSecret, a Secret with tls.crt, tls.key and ca.crt" -}}
{{- end -}}

{{- range $name := list "nats" "redis" -}}
  {{- $section := get $v $name -}}
  {{- $keys := list -}}
  {{- range $key := list "urlKey" "credentialsKey" "nkeySeedKey" "tokenKey" "passwordKey" -}}
    {{- if get $section $key -}}{{- $keys = append $keys (printf "%s.%s" $name $key) -}}{{- end -}}
  {{- end -}}
  {{- if get ($section.sentinel | default dict) "passwordKey" -}}{{- $keys = append $keys (printf "%s.sentinel.passwordKey" $name) -}}{{- end -}}
  {{- if and $keys (not $section.existingSecret) -}}
    {{- $bad = append $bad (printf "%s names a key, but no Secret: set %s.existingSecret" (first $keys) $name) -}}
  {{- end -}}
  {{- if and $section.existingSecret (not $keys) -}}
    {{- $bad = append $bad (printf "%s.existingSecret is given, but none of its keys: set %s.urlKey or %s.passwordKey, whichever it holds" $name $name $name) -}}
  {{- end -}}
  {{- if and $section.url $section.urlKey -}}
    {{- $bad = append $bad (printf "%s.url and %s.urlKey are both given: keep one of the two" $name $name) -}}
  {{- end -}}
  {{- if regexMatch "://[^/,]*@" $section.url -}}
    {{- $bad = append $bad (printf "%s.url holds credentials, and a ConfigMap is no place for them: put the URL into a Secret and name it by %s.existingSecret and %s.urlKey" $name $name $name) -}}
  {{- end -}}
  {{- if and $section.user (not $section.passwordKey) -}}
    {{- $bad = append $bad (printf "%s.user has no password: set %s.existingSecret and %s.passwordKey" $name $name $name) -}}
  {{- end -}}
  {{- if and $section.tls.clientCertificate (not $section.tls.existingSecret) -}}
    {{- $bad = append $bad (printf "%s.tls.clientCertificate needs %s.tls.existingSecret, a Secret with tls.crt, tls.key and ca.crt" $name $name) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.nats.passwordKey (not $v.nats.user) -}}
  {{- $bad = append $bad "nats.passwordKey belongs to no user: set nats.user" -}}
{{- end -}}
{{- if gt (len (compact (list $v.nats.credentialsKey $v.nats.nkeySeedKey $v.nats.tokenKey $v.nats.user))) 1 -}}
  {{- $bad = append $bad "nats.credentialsKey, nats.nkeySeedKey, nats.tokenKey and nats.user are four ways to log in: keep one" -}}
{{- end -}}
{{- range $name, $tls := dict "nats" $v.nats.tls "redis" $v.redis.tls "tickets.jwt" $v.tickets.jwt.tls -}}
  {{- if and $tls.caConfigMap $tls.existingSecret (not $tls.clientCertificate) -}}
    {{- $bad = append $bad (printf "%s.tls.caConfigMap and %s.tls.existingSecret both hold the CA: keep one of the two" $name $name) -}}
  {{- end -}}
{{- end -}}
{{- if and (or $v.redis.tls.existingSecret $v.redis.tls.caConfigMap) $v.redis.url (not (hasPrefix "rediss" $v.redis.url)) -}}
  {{- $bad = append $bad "redis.tls is for TLS, and redis.url asks for none: write rediss://HOST:PORT there" -}}
{{- end -}}
{{- if and $v.redis.url (not (regexMatch "^rediss?(-sentinel|-cluster)?://" $v.redis.url)) -}}
  {{- $bad = append $bad "redis.url must begin with redis://, redis-sentinel:// or redis-cluster://, or with rediss for TLS" -}}
{{- end -}}
{{- if and (hasPrefix "redis" $v.redis.url) (contains "-sentinel://" $v.redis.url) (not (contains "?master=" $v.redis.url)) -}}
  {{- $bad = append $bad "redis.url names Sentinels, but not the primary: write ?master=NAME at its end" -}}
{{- end -}}
{{- if and $v.redis.sentinel.user (not $v.redis.sentinel.passwordKey) -}}
  {{- $bad = append $bad "redis.sentinel.user has no password: set redis.existingSecret and redis.sentinel.passwordKey" -}}
{{- end -}}
{{- if and $v.redis.sentinel.passwordKey $v.redis.url (not (contains "-sentinel://" $v.redis.url)) -}}
  {{- $bad = append $bad "redis.sentinel.passwordKey is for Sentinels, and redis.url names none: write redis-sentinel://HOST:26379/0?master=NAME there" -}}
{{- end -}}

{{- with $v.tickets.jwt -}}
  {{- $sources := include "usher.jwt" $ | splitList " " | compact -}}
  {{- $issuer := or .issuer (include "usher.fromEnv" (list $ "USHER_TICKETS__JWT__ISSUER")) -}}
  {{- $audience := or .audience (include "usher.fromEnv" (list $ "USHER_TICKETS__JWT__AUDIENCE")) -}}
  {{- if gt (len $sources) 1 -}}
    {{- $bad = append $bad "tickets.jwt.secretKey, .publicKeyKey, .jwksUrl and .oidcIssuer, and the same by extraEnv, are ways to check a token: keep one" -}}
  {{- end -}}
  {{- if not $sources -}}
    {{- $lost := list -}}
    {{- range $key := list "connect" "issuer" "audience" "algorithms" "topicsClaim" "mayFollowClaim" "mayFollowPrefixClaim" "callsClaim" -}}
      {{- if get $v.tickets.jwt $key -}}{{- $lost = append $lost (print "tickets.jwt." $key) -}}{{- end -}}
    {{- end -}}
    {{- if ne .userClaim "sub" -}}{{- $lost = append $lost "tickets.jwt.userClaim" -}}{{- end -}}
    {{- range $lost -}}
      {{- $bad = append $bad (print . " needs a way to check a token: set tickets.jwt.secretKey, .publicKeyKey, .jwksUrl or .oidcIssuer; or by extraEnv USHER_TICKETS__JWT__SECRET_FILE, …PUBLIC_KEY_FILE, …JWKS_URL or …OIDC_ISSUER") -}}
    {{- end -}}
  {{- end -}}
  {{- if and (has "oidcIssuer" $sources) $issuer -}}
    {{- $bad = append $bad "tickets.jwt.oidcIssuer is the issuer: leave tickets.jwt.issuer out" -}}
  {{- end -}}
  {{- if and (has "oidcIssuer" $sources) (not $audience) -}}
    {{- $bad = append $bad "tickets.jwt.oidcIssuer needs tickets.jwt.audience: its keys sign tokens for others too" -}}
  {{- end -}}
  {{- if and (ne .audienceClaim "aud") (not $audience) -}}
    {{- $bad = append $bad "tickets.jwt.audienceClaim goes with tickets.jwt.audience: set that too" -}}
  {{- end -}}
  {{- if and (or .tls.existingSecret .tls.caConfigMap) (not (or (has "jwksUrl" $sources) (has "oidcIssuer" $sources))) -}}
    {{- $bad = append $bad "tickets.jwt.tls is for tickets.jwt.jwksUrl and .oidcIssuer: set one of them" -}}
  {{- end -}}
  {{- if and (or .secretKey .publicKeyKey) (not .existingSecret) -}}
    {{- $bad = append $bad "tickets.jwt.secretKey or .publicKeyKey names a key, but no Secret: set tickets.jwt.existingSecret" -}}
  {{- end -}}
  {{- if and .existingSecret (not (or .secretKey .publicKeyKey)) -}}
    {{- $bad = append $bad "tickets.jwt.existingSecret is given, but none of its keys: set tickets.jwt.secretKey or .publicKeyKey" -}}
  {{- end -}}
  {{- if and (has "jwksUrl" $sources) (not (and $issuer $audience)) -}}
    {{- $bad = append $bad "tickets.jwt.jwksUrl needs tickets.jwt.issuer and .audience: its keys sign tokens for others too" -}}
  {{- end -}}
{{- end -}}

{{- if $ways -}}
  {{- if not $v.public.trustedProxies -}}
    {{- $bad = append $bad "public.trustedProxies is required behind a proxy: the addresses of its pods, such as --set 'public.trustedProxies={10.0.0.0/8}'; without it every client has the proxy's address" -}}
  {{- end -}}
  {{- if not $v.hosts -}}
    {{- $bad = append $bad "hosts is required with httpRoute, traefik or nginx: the names that browsers ask for, such as --set 'hosts={push.example.com}'" -}}
  {{- end -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
  {{- $bad = append $bad "httpRoute.parentRefs is required: the Gateway that the route hangs on, such as --set 'httpRoute.parentRefs[0].name=public'" -}}
{{- end -}}
{{- if and $v.httpRoute.sessionPersistence (not (and $v.httpRoute.enabled $v.cookieAffinity.enabled)) -}}
  {{- $bad = append $bad "httpRoute.sessionPersistence is how cookieAffinity.enabled is written into an HTTPRoute: set httpRoute.enabled and cookieAffinity.enabled too" -}}
{{- end -}}
{{- if and $v.cookieAffinity.enabled $v.httpRoute.enabled (not $v.httpRoute.sessionPersistence) -}}
  {{- $bad = append $bad "cookieAffinity.enabled needs httpRoute.sessionPersistence=true with an HTTPRoute, and the experimental channel of the Gateway API's CRDs: the standard channel has no such field. Or leave cookieAffinity.enabled out, since sessions do not need it" -}}
{{- end -}}
{{- if and $v.cookieAffinity.enabled (not (or $ways (eq $v.mesh.type "istio"))) -}}
  {{- $bad = append $bad "cookieAffinity.enabled needs a proxy that sets the cookie: httpRoute, traefik, nginx, or mesh.type=istio; for a Service there is service.sessionAffinity" -}}
{{- end -}}
{{- if and $v.traefik.enabled $v.traefik.tlsSecret $v.traefik.certResolver -}}
  {{- $bad = append $bad "traefik.tlsSecret and traefik.certResolver are two ways to a certificate: keep one" -}}
{{- end -}}
{{- if and $v.traefik.enabled (not $v.traefik.tls) (or $v.traefik.tlsSecret $v.traefik.certResolver) -}}
  {{- $bad = append $bad "traefik.tls is false, but traefik.tlsSecret or traefik.certResolver is given: keep one of the two" -}}
{{- end -}}

{{- if le (include "usher.milliseconds" $v.session.idleTimeout | int64) (include "usher.milliseconds" $v.session.pingInterval | int64) -}}
  {{- $bad = append $bad (printf "session.idleTimeout (%s) must be longer than session.pingInterval (%s), or quiet sessions are closed" $v.session.idleTimeout $v.session.pingInterval) -}}
{{- end -}}
{{- $age := include "usher.milliseconds" $v.durable.maxAge | int64 -}}
{{- if and $v.durable.enabled $age (gt (include "usher.milliseconds" $v.durable.duplicateWindow | int64) $age) -}}
  {{- $bad = append $bad (printf "durable.duplicateWindow (%s) must not be above durable.maxAge (%s)" $v.durable.duplicateWindow $v.durable.maxAge) -}}
{{- end -}}
{{- if and $v.durable.enabled $v.demo.enabled (gt (int $v.durable.replicas) 1) -}}
  {{- $bad = append $bad "durable.replicas is more than 1, and the demo has one NATS" -}}
{{- end -}}
{{- if and $v.offline.events (not $v.durable.enabled) -}}
  {{- $bad = append $bad "offline.events needs a stream that keeps messages: set durable.enabled=true" -}}
{{- end -}}
{{- $ports := list (int $v.public.port) (int $v.grpc.port) (int $v.ops.port) -}}
{{- if ne (len (uniq $ports)) 3 -}}
  {{- $bad = append $bad "public.port, grpc.port and ops.port must differ" -}}
{{- end -}}

{{- with (($v.resources).limits).memory -}}
  {{- $limit := include "usher.quantity" . | int64 -}}
  {{- $needed := include "usher.memory" $ | int64 -}}
  {{- if and (gt $limit 0) (lt $limit $needed) -}}
    {{- $bad = append $bad (printf "resources.limits.memory (%s) is less than %d public.maxSessions%s, session.totalQueueBytes (%s)%s and grpc.maxInFlightBytes (%s) may come to need: give it %dMi, or lower one of them" (toString .) (int $v.public.maxSessions) (ternary " (10.5 KB each with public.tls)" "" (ne $v.public.tls.existingSecret "")) $v.session.totalQueueBytes (ternary (printf ", durable.replayBytes (%s)" $v.durable.replayBytes) "" $v.durable.enabled) $v.grpc.maxInFlightBytes (div (add $needed 1048575) 1048576)) -}}
  {{- end -}}
{{- end -}}

{{- if $v.autoscaling.enabled -}}
  {{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
    {{- $bad = append $bad (printf "autoscaling.minReplicas (%d) is more than autoscaling.maxReplicas (%d)" (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
  {{- end -}}
  {{- if not (or $v.autoscaling.targetCpu $v.autoscaling.targetSessions) -}}
    {{- $bad = append $bad "autoscaling.enabled has nothing to scale by: set autoscaling.targetCpu or autoscaling.targetSessions" -}}
  {{- end -}}
  {{- if and $v.autoscaling.targetCpu (not (($v.resources).requests).cpu) -}}
    {{- $bad = append $bad "autoscaling.targetCpu is a share of resources.requests.cpu, which is not given" -}}
  {{- end -}}
  {{- if and $v.public.maxSessions (gt (int $v.autoscaling.targetSessions) (int $v.public.maxSessions)) -}}
    {{- $bad = append $bad (printf "autoscaling.targetSessions (%d) is more than public.maxSessions (%d): gateways would be full before another comes" (int $v.autoscaling.targetSessions) (int $v.public.maxSessions)) -}}
  {{- end -}}
{{- end -}}
{{- if and $v.podDisruptionBudget.enabled (has (toString $v.podDisruptionBudget.maxUnavailable) (list "0" "0%")) -}}
  {{- $bad = append $bad "podDisruptionBudget.maxUnavailable is 0: no node could ever be drained" -}}
{{- end -}}

{{- if and (eq $v.service.type "ClusterIP") (or $v.service.nodePort (ne $v.service.externalTrafficPolicy "Cluster")) -}}
  {{- $bad = append $bad "service.nodePort and service.externalTrafficPolicy need service.type NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and (ne $v.service.type "LoadBalancer") (or $v.service.loadBalancerClass $v.service.loadBalancerSourceRanges) -}}
  {{- $bad = append $bad "service.loadBalancerClass and service.loadBalancerSourceRanges need service.type LoadBalancer" -}}
{{- end -}}
{{- with $v.grpc.service -}}
  {{- if and (not .type) .nodePort -}}
    {{- $bad = append $bad "grpc.service.nodePort needs grpc.service.type NodePort or LoadBalancer" -}}
  {{- end -}}
  {{- if and (ne .type "LoadBalancer") (or .loadBalancerClass .loadBalancerSourceRanges) -}}
    {{- $bad = append $bad "grpc.service.loadBalancerClass and grpc.service.loadBalancerSourceRanges need grpc.service.type LoadBalancer" -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.mesh.ambient (ne $v.mesh.type "istio") -}}
  {{- $bad = append $bad "mesh.ambient is a mode of Istio's: set mesh.type=istio" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled -}}
  {{- $bad = append $bad "serviceMonitor and podMonitor would have every gateway scraped twice: keep one of the two" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled $v.grpc.service.type (not $v.networkPolicy.extraIngress) -}}
  {{- $bad = append $bad "grpc.service.type lets callers in from outside the cluster, and networkPolicy keeps them out: let their addresses in by networkPolicy.extraIngress, as {ports: [{port: grpc}], from: [{ipBlock: {cidr: 10.0.0.0/8}}]}" -}}
{{- end -}}
{{- if and $v.traefik.enabled (contains "*" (join "," $v.hosts)) -}}
  {{- $bad = append $bad "hosts: Traefik takes a host with * as it is written, so no request would match; name each host" -}}
{{- end -}}
{{- if $v.networkPolicy.enabled -}}
  {{- range $name := list "nats" "redis" -}}
    {{- $allowed := list -}}
    {{- range get $v.networkPolicy (printf "%sPorts" $name) -}}{{- $allowed = append $allowed (int .) -}}{{- end -}}
    {{- range $url := splitList "," (get $v $name).url -}}
      {{- $port := regexFind ":[0-9]+(/[0-9]*)?$" (trim $url) | regexFind "^:[0-9]+" | trimPrefix ":" | int -}}
      {{- if and $port (not (has $port $allowed)) -}}
        {{- $bad = append $bad (printf "networkPolicy.%sPorts does not have %d, the port of %s.url: no gateway would reach it" $name $port $name) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- if $bad -}}
{{- fail (printf "\n\nUsher can't be installed so:\n\n  - %s\n" (join "\n  - " $bad)) -}}
{{- end -}}
{{- end -}}
