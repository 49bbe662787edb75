import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLEncoder;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.StandardOpenOption.READ;
import static java.nio.file.StandardOpenOption.SYNC;
import static java.nio.file.StandardOpenOption.WRITE;

/**
 * Takes the events of refund-notify: verifies each, books it once.
 *
 * WEBHOOK_SECRETS: the signing keys (whsec_...), one or more, on one line or several.
 * EVENTS: a directory, where each event becomes a file.  PORT: of 127.0.0.1.
 */
public class Receiver {
    static final String[] SECRETS = variable("WEBHOOK_SECRETS", "").trim().split("\\s+");
    static final Path EVENTS = Path.of(variable("EVENTS", "events"));
    static final int LIMIT = 1 << 20;

    static String variable(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    static boolean genuine(String id, String sent, String given, byte[] body) throws Exception {
        if (id == null || given == null || sent == null || !sent.matches("[0-9]{1,12}")
                || Math.abs(Instant.now().getEpochSecond() - Long.parseLong(sent)) > 300) {
            return false;
        }
        boolean found = false;
        for (String secret : SECRETS) {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(
                    Base64.getDecoder().decode(secret.replaceFirst("^whsec_", "")), "HmacSHA256"));
            mac.update((id + "." + sent + ".").getBytes(ISO_8859_1));
            String wanted = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(body));
            for (String one : given.split(" ")) {
                found |= MessageDigest.isEqual(wanted.getBytes(ISO_8859_1), one.getBytes(ISO_8859_1));
            }
        }
        return found;
    }

    // The file's name is the unique key: a link is made whole, or says that it is there.  With a
    // database it is an INSERT of the id, in one transaction with the booking.
    static void book(String id, byte[] body) throws IOException {
        Path written = Files.createTempFile(EVENTS, ".", null);
        try {
            Files.write(written, body, WRITE, SYNC);
            Files.createLink(EVENTS.resolve(URLEncoder.encode(id, UTF_8)), written);
        } catch (FileAlreadyExistsException known) {
            // booked before
        } finally {
            Files.delete(written);
        }
        // or a power cut takes the name: the one just made by another, too
        try (FileChannel directory = FileChannel.open(EVENTS, READ)) {
            directory.force(true);
        }
    }

    static int answer(HttpExchange exchange) throws Exception {
        if (!exchange.getRequestMethod().equals("POST")) {
            return 405;
        }
        byte[] body = exchange.getRequestBody().readNBytes(LIMIT + 1);
        if (body.length > LIMIT) {
            return 413;
        }
        var headers = exchange.getRequestHeaders();
        String id = headers.getFirst("webhook-id");
        if (!genuine(id, headers.getFirst("webhook-timestamp"),
                headers.getFirst("webhook-signature"), body)) {
            return 401;
        }
        book(id, body);
        return 200;
    }

    static void handle(HttpExchange exchange) throws IOException {
        int status = 500;
        try {
            status = answer(exchange);
        } catch (Exception error) {
            error.printStackTrace();
        }
        byte[] body = (status == 200 ? "{\"code\":\"SUCCESS\"}" : "{\"code\":\"FAIL\"}").getBytes(UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    public static void main(String[] arguments) throws Exception {
        if (SECRETS[0].isEmpty()) {
            throw new IllegalStateException("no WEBHOOK_SECRETS");
        }
        Files.createDirectories(EVENTS);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1",
                Integer.parseInt(variable("PORT", "3000"))), 0);
        server.createContext("/", Receiver::handle);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}
