// What the tests ask of JupyterLab from within its page, as window.course.
window.course = (() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const cells = panel.content.widgets;
    const isCode = (cell) => cell.model.type === "code" && cell.model.sharedModel.source.trim();
    const course = { errors: [] };
    let unfinished = 0; // runs: a second one may wait behind the first

    const plain = (text) => text.replace(/\x1b\[[0-9;]*m/g, "");

    // JupyterLab asks a fresh kernel for its widgets, through a comm of its own. Until ipywidgets is imported, the kernel
    // answers on stderr that there is no such target, and then no such comm. The kernel opens all other comms itself.
    const opened = new Set();
    const answersJupyterLab = (line) => {
        const [, comm] = line.match(/^No such comm: (\S+)$/) ?? [];
        return comm ? !opened.has(comm) : line === "No such comm target registered: jupyter.widget.control";
    };

    // Errors in a widget's callback or in a thread are in no cell's output: only the kernel's messages tell of them.
    panel.sessionContext.iopubMessage.connect((_, { header, content }) => {
        if (header.msg_type === "comm_open") opened.add(content.comm_id);
        if (header.msg_type === "error") course.errors.push(plain(content.traceback.join("\n")));
        if (header.msg_type !== "stream" || content.name !== "stderr") return;
        const rest = content.text.split("\n").filter((line) => !answersJupyterLab(line));
        if (rest.some((line) => line)) course.errors.push(rest.join("\n"));
    });
    cells.forEach((cell, number) => (cell.node.dataset.number = number));

    course.codeCells = () =>
        cells.flatMap((cell, number) => {
            if (!isCode(cell)) return [];
            const { executionState, executionCount, sharedModel } = cell.model;
            return [{ number, source: sharedModel.source, state: executionState, count: executionCount }];
        });

    // One after the other, whether the one before has failed or not.
    course.runCells = async (first, last) => {
        unfinished++;
        for (let number = first; number <= last; number++) {
            if (!isCode(cells[number])) continue;
            panel.content.activeCellIndex = number;
            panel.content.deselectAll();
            await window.jupyterapp.commands.execute("notebook:run-cell").catch(() => null);
        }
        unfinished--;
    };

    course.isIdle = () => unfinished === 0 && panel.sessionContext.kernelDisplayStatus === "idle";

    course.outputText = (number) => cells[number].outputArea.node.textContent;

    // Pictures and widgets that should be in the page and cannot be seen there.
    course.notDrawn = () => {
        const complaints = [];
        for (const image of panel.content.node.querySelectorAll("img"))
            if (!image.complete || !image.naturalWidth)
                complaints.push(`a picture is broken: ${image.outerHTML.slice(0, 200)}`);
        cells.filter(isCode).forEach((cell) => {
            const { outputs, sharedModel } = cell.model;
            for (let i = 0; i < outputs.length; i++) {
                if (!("application/vnd.jupyter.widget-view+json" in outputs.get(i).data)) continue;
                const widget = cell.outputArea.widgets[i].node;
                // What stands in for a widget, an error or "Loading widget...", is text with nothing in it.
                const isDrawn = widget.querySelector(".jupyter-widgets > *")?.offsetHeight;
                if (!isDrawn) complaints.push(`a widget is missing: ${widget.textContent} under ${sharedModel.source}`);
            }
        });
        return complaints;
    };

    course.formulas = () => {
        const all = [...panel.content.node.querySelectorAll("mjx-container")];
        // MathJax frames what it cannot parse, and prints a command that it does not know in red.
        const wrong = all.filter((formula) => formula.querySelector("mjx-merror, mtext[mathcolor=red]"));
        return { count: all.length, wrong: wrong.map((formula) => formula.textContent) };
    };

    course.shutDown = () => panel.sessionContext.shutdown();
    return course;
})();
