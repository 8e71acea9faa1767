import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The client program of the conformance runner for the Java kafka-clients. ../lib/worker.py describes
 * the lines that it reads and writes; the cases are in *Cases.java, by the names of ../lib/cases.py. With
 * arguments it is a member of a group instead.
 */
public final class Client {
    interface Body {
        void run(Case c) throws Exception;
    }

    private static final Map<String, Body> CASES = new HashMap<>();

    static {
        RecordCases.register(CASES);
        AdminCases.register(CASES);
        OffsetCases.register(CASES);
        GroupCases.register(CASES);
    }

    public static void main(String[] args) throws IOException {
        if (args.length > 0 && args[0].equals("member")) {
            GroupCases.memberMain(args[1], args[2], List.of(args).subList(3, args.length));
            return;
        }
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = input.readLine()) != null) {
            String[] fields = line.split("\t");
            Map<String, String> named = new HashMap<>();
            for (int i = 4; i < fields.length; i++) {
                String[] pair = fields[i].split("=", 2);
                named.put(pair[0], pair[1]);
            }
            System.out.println(outcome(fields[1], new Case(input, fields[2], fields[3], named)));
        }
    }

    private static String outcome(String name, Case c) {
        Body body = CASES.get(name);
        if (body == null) {
            return "fail\tnot a case of this client";
        }
        try (c) {
            body.run(c);
            return "ok";
        } catch (Exception | AssertionError failure) {
            failure.printStackTrace();
            return "fail\t" + failure.toString().replaceAll("\\s+", " ");
        }
    }

    private Client() {}
}
