import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.github.centrifugal.centrifuge.Client;
import io.github.centrifugal.centrifuge.ConnectedEvent;
import io.github.centrifugal.centrifuge.ConnectingEvent;
import io.github.centrifugal.centrifuge.ConnectionTokenEvent;
import io.github.centrifugal.centrifuge.ConnectionTokenGetter;
import io.github.centrifugal.centrifuge.DisconnectedEvent;
import io.github.centrifugal.centrifuge.DuplicateSubscriptionException;
import io.github.centrifugal.centrifuge.ErrorEvent;
import io.github.centrifugal.centrifuge.EventListener;
import io.github.centrifugal.centrifuge.Options;
import io.github.centrifugal.centrifuge.PublicationEvent;
import io.github.centrifugal.centrifuge.ReplyError;
import io.github.centrifugal.centrifuge.ServerPublicationEvent;
import io.github.centrifugal.centrifuge.ServerSubscribedEvent;
import io.github.centrifugal.centrifuge.SubscribedEvent;
import io.github.centrifugal.centrifuge.Subscription;
import io.github.centrifugal.centrifuge.SubscriptionEventListener;
import io.github.centrifugal.centrifuge.TokenCallback;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * A client made of Maven's centrifuge-java, unchanged. `make centrifuge-java` runs it by
 * tests/journeys/centrifuge/java.rs:
 *
 * <pre>java App '{"url":"ws://…","tickets":"http://…/v1/tickets","user":"42"}'</pre>
 *
 * The SDK speaks Protobuf, and keeps the same data for all its connections, so one ticket opens
 * one of them. With "secret" it signs itself JWTs that live for "life" seconds instead, where
 * "token" is not the first one. Ticket and JWT carry "grants". With "follow" it subscribes to
 * that topic by itself; with "call" it makes these calls, once connected. It prints `ticket T`
 * for each ticket and JWT, and everything that happens as one JSON object a line, until it is
 * killed.
 */
public final class App {
    private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    /** A service asks for a session with fresh grants. */
    private static final int RECONNECT = 3014;

    private final JsonObject options;

    private App(JsonObject options) {
        this.options = options;
    }

    public static void main(String[] arguments) throws Exception {
        new App(JsonParser.parseString(arguments[0]).getAsJsonObject()).run();
        Thread.currentThread().join();
    }

    private static synchronized void print(String line) {
        System.out.println(line);
    }

    private static void say(String on, JsonObject rest) {
        rest.addProperty("on", on);
        print(GSON.toJson(rest));
    }

    private static JsonObject code(int code, String reason) {
        JsonObject said = new JsonObject();
        said.addProperty("code", code);
        said.addProperty("reason", reason);
        return said;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Each byte as a character, as the other clients of Protobuf print it. */
    private static String shown(byte[] data) {
        return data == null ? "" : new String(data, StandardCharsets.ISO_8859_1);
    }

    private JsonObject grants() {
        return options.has("grants") ? options.getAsJsonObject("grants").deepCopy() : new JsonObject();
    }

    private String ticket() throws Exception {
        JsonObject wanted = grants();
        wanted.add("user_id", options.get("user"));
        HttpRequest request = HttpRequest.newBuilder(URI.create(options.get("tickets").getAsString()))
                .header("content-type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(GSON.toJson(wanted)))
                .build();
        HttpResponse<String> answer =
                HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() / 100 != 2) {
            throw new IllegalStateException("tickets: " + answer.statusCode());
        }
        String ticket = JsonParser.parseString(answer.body()).getAsJsonObject().get("ticket").getAsString();
        print("ticket " + ticket);
        return ticket;
    }

    private String token() throws Exception {
        JsonObject head = new JsonObject();
        head.addProperty("alg", "HS256");
        head.addProperty("typ", "JWT");
        JsonObject claims = grants();
        claims.add("sub", options.get("user"));
        claims.addProperty("exp", Instant.now().getEpochSecond() + options.get("life").getAsLong());
        Base64.Encoder encoder = Base64.getUrlEncoder().withoutPadding();
        String signed = encoder.encodeToString(bytes(GSON.toJson(head))) + "."
                + encoder.encodeToString(bytes(GSON.toJson(claims)));
        Mac signer = Mac.getInstance("HmacSHA256");
        signer.init(new SecretKeySpec(bytes(options.get("secret").getAsString()), "HmacSHA256"));
        String token = signed + "." + encoder.encodeToString(signer.doFinal(bytes(signed)));
        say("token", new JsonObject());
        print("ticket " + token);
        return token;
    }

    private void run() throws Exception {
        Options of = new Options();
        of.setMinReconnectDelay(50);
        of.setMaxReconnectDelay(300);
        if (options.has("secret")) {
            of.setToken(options.has("token") ? options.get("token").getAsString() : "");
            of.setTokenGetter(new ConnectionTokenGetter() {
                @Override
                public void getConnectionToken(ConnectionTokenEvent event, TokenCallback callback) {
                    try {
                        callback.Done(null, token());
                    } catch (Exception error) {
                        callback.Done(error, null);
                    }
                }
            });
        } else {
            JsonObject data = new JsonObject();
            data.addProperty("ticket", ticket());
            of.setData(bytes(GSON.toJson(data)));
        }
        Client client = new Client(options.get("url").getAsString(), of, new Listener());
        client.connect();
        if (options.has("follow")) {
            follow(client, options.get("follow").getAsString());
        }
    }

    private static void follow(Client client, String topic) throws DuplicateSubscriptionException {
        Subscription subscription = client.newSubscription(topic, new SubscriptionEventListener() {
            @Override
            public void onSubscribed(Subscription subscription, SubscribedEvent event) {
                subscribed(topic, event.getRecovered(), event.wasRecovering(), event.getRecoverable());
            }

            @Override
            public void onPublication(Subscription subscription, PublicationEvent event) {
                publication(topic, event.getData(), event.getOffset(), event.getTags());
            }
        });
        subscription.subscribe();
    }

    private static void subscribed(
            String channel, boolean recovered, boolean wasRecovering, boolean recoverable) {
        JsonObject said = new JsonObject();
        said.addProperty("channel", channel);
        said.addProperty("recovered", recovered);
        said.addProperty("wasRecovering", wasRecovering);
        said.addProperty("recoverable", recoverable);
        say("subscribed", said);
    }

    private static void publication(String channel, byte[] data, long offset, Map<String, String> tags) {
        JsonObject said = new JsonObject();
        said.addProperty("channel", channel);
        said.addProperty("data", shown(data));
        said.addProperty("offset", offset);
        said.add("tags", GSON.toJsonTree(tags));
        say("publication", said);
    }

    private void call(Client client, JsonArray calls, int index) {
        if (index == calls.size()) {
            return;
        }
        JsonArray one = calls.get(index).getAsJsonArray();
        JsonElement name = one.get(0);
        client.rpc(name.getAsString(), bytes(GSON.toJson(one.get(1))), (error, result) -> {
            JsonObject said = new JsonObject();
            said.add("name", name);
            if (error instanceof ReplyError) {
                said.addProperty("code", ((ReplyError) error).getCode());
                said.addProperty("message", error.getMessage());
            } else if (error != null) {
                said.addProperty("message", error.toString());
            } else {
                said.addProperty("data", shown(result.getData()));
            }
            say("answer", said);
            call(client, calls, index + 1);
        });
    }

    private final class Listener extends EventListener {
        @Override
        public void onConnecting(Client client, ConnectingEvent event) {
            say("connecting", code(event.getCode(), event.getReason()));
            // As docs/centrifuge.md tells apps: this SDK would show its old token again.
            if (event.getCode() == RECONNECT && options.has("secret")) {
                client.setToken("");
            }
        }

        @Override
        public void onConnected(Client client, ConnectedEvent event) {
            say("connected", new JsonObject());
            if (options.has("call")) {
                call(client, options.getAsJsonArray("call"), 0);
            }
        }

        @Override
        public void onDisconnected(Client client, DisconnectedEvent event) {
            say("disconnected", code(event.getCode(), event.getReason()));
        }

        @Override
        public void onError(Client client, ErrorEvent event) {
            JsonObject error = new JsonObject();
            error.addProperty("message", String.valueOf(event.getError()));
            JsonObject said = new JsonObject();
            said.add("error", error);
            say("error", said);
        }

        @Override
        public void onSubscribed(Client client, ServerSubscribedEvent event) {
            subscribed(
                    event.getChannel(), event.getRecovered(), event.wasRecovering(), event.getRecoverable());
        }

        @Override
        public void onPublication(Client client, ServerPublicationEvent event) {
            publication(event.getChannel(), event.getData(), event.getOffset(), event.getTags());
        }
    }
}
