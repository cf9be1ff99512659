import com.google.gson.Gson;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.spiffe.bundle.jwtbundle.JwtBundle;
import io.spiffe.bundle.jwtbundle.JwtBundleSet;
import io.spiffe.bundle.x509bundle.X509Bundle;
import io.spiffe.bundle.x509bundle.X509BundleSet;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.logging.Level;
import java.util.logging.Logger;

/**
 * A workload that knows nothing of Muster: java-spiffe, unchanged. It prints one JSON object per event.
 *
 * <pre>
 * fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE... | fetch-jwt-bundles
 * validate-jwt AUDIENCE TOKEN
 * hammer N            N times: a new connection to the Workload API and one fetch
 * </pre>
 *
 * The Workload API is the one that SPIFFE_ENDPOINT_SOCKET names.
 */
public final class Client {
    private static final Gson JSON = new Gson();
    // The library keeps what it retries in its log; standard error is for people.
    private static final Logger ROOT = Logger.getLogger("");

    private Client() {}

    public static void main(String[] args) throws Exception {
        ROOT.setLevel(Level.WARNING);
        if (args.length == 0) {
            System.err.println("which command?");
            System.exit(2);
        }
        int status = 0;
        try {
            run(args[0], Arrays.copyOfRange(args, 1, args.length));
        } catch (Exception failed) {
            failure(failed);
            status = 1;
        }
        // The library's threads would keep the process.
        System.exit(status);
    }

    private static void run(String command, String[] args) throws Exception {
        if (command.equals("hammer")) {
            hammer(Integer.parseInt(args[0]));
            return;
        }
        try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient()) {
            switch (command) {
                case "fetch-x509" -> event("x509", describe(client.fetchX509Context()));
                case "watch-x509" -> watch(client);
                case "fetch-bundles" -> event("bundles", Map.of("bundles", domains(client.fetchX509Bundles())));
                case "fetch-jwt" -> {
                    List<Object> tokens = new ArrayList<>();
                    for (JwtSvid svid : client.fetchJwtSvids(args[0], Arrays.copyOfRange(args, 1, args.length))) {
                        tokens.add(describe(svid));
                    }
                    event("jwt", Map.of("svids", tokens));
                }
                case "fetch-jwt-bundles" -> event("jwt-bundles", Map.of("bundles", domains(client.fetchJwtBundles())));
                case "validate-jwt" -> event("valid",
                    Map.of("id", client.validateJwtSvid(args[1], args[0]).getSpiffeId().toString()));
                default -> throw new IllegalArgumentException("unknown command " + command);
            }
        }
    }

    private static void watch(WorkloadApiClient client) throws InterruptedException {
        client.watchX509Context(new Watcher<X509Context>() {
            @Override
            public void onUpdate(X509Context update) {
                event("x509", describe(update));
            }

            @Override
            public void onError(Throwable error) {
                failure(error);
            }
        });
        new CountDownLatch(1).await();
    }

    private static void hammer(int rounds) {
        int served = 0;
        Map<String, Integer> refused = new TreeMap<>();
        for (int round = 0; round < rounds; round++) {
            try (WorkloadApiClient client = DefaultWorkloadApiClient.newClient()) {
                client.fetchX509Context();
                served++;
            } catch (Exception failed) {
                refused.merge(messages(failed), 1, Integer::sum);
            }
        }
        event("hammered", Map.of("ok", served, "failed", rounds - served, "errors", refused));
    }

    private static Map<String, Object> describe(X509Context update) {
        List<Object> svids = new ArrayList<>();
        for (X509Svid svid : update.getX509Svids()) {
            svids.add(Map.of(
                "id", svid.getSpiffeId().toString(),
                "hint", svid.getHint() == null ? "" : svid.getHint(),
                "serial", svid.getLeaf().getSerialNumber().toString(),
                "not_before", svid.getLeaf().getNotBefore().getTime() / 1000,
                "not_after", svid.getLeaf().getNotAfter().getTime() / 1000,
                "chain", svid.getChain().size()));
        }
        return Map.of("svids", svids, "bundles", domains(update.getX509BundleSet()));
    }

    private static Map<String, Object> describe(JwtSvid svid) {
        return Map.of(
            "id", svid.getSpiffeId().toString(),
            "hint", svid.getHint() == null ? "" : svid.getHint(),
            "token", svid.getToken(),
            "audience", svid.getAudience(),
            "not_after", svid.getExpiry().getTime() / 1000);
    }

    private static List<Object> domains(X509BundleSet set) {
        List<Object> bundles = new ArrayList<>();
        for (Map.Entry<TrustDomain, X509Bundle> bundle : set.getBundles().entrySet()) {
            bundles.add(Map.of("trust_domain", bundle.getKey().getName(),
                "authorities", bundle.getValue().getX509Authorities().size()));
        }
        return bundles;
    }

    private static List<Object> domains(JwtBundleSet set) {
        List<Object> bundles = new ArrayList<>();
        for (Map.Entry<TrustDomain, JwtBundle> bundle : set.getBundles().entrySet()) {
            bundles.add(Map.of("trust_domain", bundle.getKey().getName(),
                "authorities", bundle.getValue().getJwtAuthorities().size()));
        }
        return bundles;
    }

    private static synchronized void event(String name, Map<String, ?> fields) {
        Map<String, Object> event = new TreeMap<>(fields);
        event.put("event", name);
        System.out.println(JSON.toJson(event));
        System.out.flush();
    }

    private static void failure(Throwable error) {
        event("error", Map.of("code", code(error), "message", messages(error)));
    }

    /** The status that gRPC gave, as the standards write it: PermissionDenied. */
    private static String code(Throwable error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            Status.Code code = cause instanceof StatusRuntimeException status ? status.getStatus().getCode()
                : cause instanceof StatusException status ? status.getStatus().getCode() : null;
            if (code != null) {
                StringBuilder text = new StringBuilder();
                for (String word : code.name().split("_")) {
                    text.append(word.charAt(0)).append(word.substring(1).toLowerCase(java.util.Locale.ROOT));
                }
                return text.toString();
            }
        }
        return "Unknown";
    }

    private static String messages(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            text.append(text.isEmpty() ? "" : ": ").append(cause.getMessage());
        }
        return text.toString();
    }
}
